"""Columns of the table `trials` that say what was asked for, on what machine it was done, or why there is nothing else."""

from __future__ import annotations

import platform
import resource
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import torch

from study import provenance
from study.records import Row
from study.spec import TrialSpec


def spec_row(spec: TrialSpec) -> Row:
    """The columns of `trials` that the spec alone decides."""
    same = (
        "study",
        "arm",
        "method",
        "fold",
        "folds",
        "fold_rule",
        "seed",
        "protocol",
        "image_size",
        "channels",
        "batch_size",
        "numerics",
    )
    return {name: getattr(spec, name) for name in same} | {
        "trial_key": spec.key,
        "dataset": spec.dataset["name"],
        "epochs_planned": spec.epochs,
        "config": spec.json(),
        "data_fingerprint": spec.fingerprint,
    }


def failed_row(spec: TrialSpec, reason: str, code: Row) -> Row:
    """The row of a trial that failed before it began, or whose worker died."""
    return (
        spec_row(spec)
        | code
        | {
            "status": "failed",
            "error": reason,
            "epochs": 0,
            "host": platform.node(),
            "source_hash": provenance.source_hash(spec.method),
            "versions": provenance.versions(),
            "ended_at": datetime.now(UTC),
        }
    )


def dropped_row(spec: TrialSpec, code: Row) -> Row:
    """The row of a training that racing saved: its arm was worse than the best one in the folds and seeds before."""
    return failed_row(spec, "", code) | {"status": "stopped", "error": None, "stopped_by": "racing"}


def machine_row(device: torch.device) -> Row:
    """The columns that say where, and with what, a trial in this process runs."""
    return {
        "peak_memory_bytes": _peak_memory(device),
        "device": device_name(device.type),
        "host": platform.node(),
        "threads": torch.get_num_threads(),
        "versions": provenance.versions(),
    }


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@lru_cache(maxsize=2)
def device_name(kind: str) -> str:
    """Kind and model of the device, as in "cuda: NVIDIA H100"."""
    if kind == "cuda":
        return f"cuda: {torch.cuda.get_device_name()}"
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"cpu: {names[0] if names else platform.processor() or platform.machine()}"
