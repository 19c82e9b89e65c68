"""Where a number comes from: code, versions, machine."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
import subprocess
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from study.config import ROOT

# Variable of the environment with what code() says of the checkout, in a copy of it that has no history.
CODE = "STUDY_CODE"
_LIBRARIES = ("torch", "torchvision", "kornia", "numpy", "ray", "optuna", "pyarrow")


def code() -> dict[str, Any]:
    """git_commit and git_dirty of the checkout; in a cluster's copy what `study/cluster.py submit` said of it; else both None."""
    commit = _git("rev-parse", "HEAD")
    if commit is None and CODE in os.environ:
        told: dict[str, Any] = json.loads(os.environ[CODE])
        return told
    status = _git("status", "--porcelain")
    return {"git_commit": commit, "git_dirty": None if status is None else bool(status)}


@lru_cache(maxsize=1)
def versions() -> str:
    """JSON of the versions of Python and of the libraries that numbers depend on."""
    return json.dumps(
        {"python": platform.python_version()} | {name: metadata.version(name) for name in _LIBRARIES}, sort_keys=True
    )


# What splits the faces, and makes rows of a trained network.
_JUDGED_BY = (
    *("datasets.splits", "datasets.expressions", "study.faces"),
    *("study.trial", "study.verdict", "study.records", "study.transfer"),
)


def source_hash(method: str) -> str:
    """Hash of the source files that decide a method's numbers: its own, the loop, the splits, and all of mdml that they import."""
    return _hash_of(frozenset({f"mdml.methods.{method}", "mdml.train", *_JUDGED_BY}))


@lru_cache(maxsize=64)
def _hash_of(modules: frozenset[str]) -> str:
    found: dict[str, Path] = {}
    waiting = sorted(modules)
    while waiting:
        module = waiting.pop()
        path = _file_of(module)
        # The registry of methods imports none of them by name, so that no method depends on another's source.
        if module not in found and path is not None:
            found[module] = path
            waiting += _imports(path)
    digest = hashlib.sha256()
    for module in sorted(found):
        digest.update(f"{module}\n".encode() + found[module].read_bytes())
    return digest.hexdigest()[:16]


def _imports(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "mdml":
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names if alias.name.split(".")[0] == "mdml"]
    return names


def _file_of(module: str) -> Path | None:
    base = ROOT.joinpath(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
