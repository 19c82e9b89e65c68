"""Train one stored trial again, in this process, and compare what comes out with its row."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from datasets import open_dataset
from results import Store
from study import provenance
from study.config import Config
from study.errors import StudyError
from study.extras import open_other
from study.spec import TrialSpec
from study.trial import Faces, Trial, use_device


def rerun(key: str, config: Config, console: Console) -> int:
    """Print the stored and the new metrics of a trial; 0 where they are equal, else 1.

    Writes nothing but an audit row where the test fold is opened.

    Raises:
        StudyError: where there is no such trial.

    """
    store = Store(config["storage"]["root"])
    rows = [row for row in store.read("trials").to_pylist() if row["trial_key"].startswith(key)]
    if len(rows) != 1:
        raise StudyError(
            f"Expected the key of one trial under {store.root}, found {len(rows)} that begin with {key!r}."
        )
    old = rows[0]
    if old["status"] == "failed":
        raise StudyError(f"The trial {old['trial_key']} failed and has no metrics to compare: {old['error']}")
    spec = TrialSpec.parse(old["config"])
    device = use_device(old["threads"], cuda=old["device"].startswith("cuda"))
    options = {name: value for name, value in spec.dataset.items() if name != "name"}
    cache = Path(config["dataset"]["cache"])
    faces = open_dataset(
        spec.dataset["name"], image_size=spec.image_size, channels=spec.channels, cache=cache, **options
    )
    trial = Trial(
        spec,
        Faces(faces, device),
        provenance.code(),
        lambda row: store.write("audits", f"{spec.key}-{uuid.uuid4().hex[:8]}", [row]),
        [
            Faces(open_other(one["dataset"], spec.image_size, spec.channels, cache), device)
            for one in spec.evaluation.get("transfer", [])
        ],
    )
    records = trial.run()
    for _ in range(old["epochs"]):
        next(records)
    new: dict[str, Any] = trial.finish()["trials"][0] if old["status"] == "done" else trial.row("stopped")
    table = Table(title=f"{old['arm']}, fold {spec.fold}, seed {spec.seed}", title_justify="left")
    for column in ("metric", "stored", "now", ""):
        table.add_column(column)
    compared = [name for name in old if name.startswith(("train_", "val_", "test_")) and isinstance(old[name], float)]
    equal = True
    for name in compared:
        same = old[name] == new.get(name)
        equal &= same
        table.add_row(name, repr(old[name]), repr(new.get(name)), "equal" if same else "differs")
    console.print(table)
    console.print(
        "All metrics are equal."
        if equal
        else f"Metrics differ; the row was made on {old['device']} with {old['versions']}."
    )
    return 0 if equal else 1
