"""Train one stored trial again, in this process, and compare what comes out with its row."""

from __future__ import annotations

import uuid
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from results import Store
from study import provenance
from study.config import Config
from study.errors import StudyError
from study.extras import open_other
from study.faces import Faces
from study.records import Row
from study.spec import TrialSpec
from study.staging import open_faces
from study.trial import Trial, use_device


class Repeated(NamedTuple):
    """A trial that was trained again: its stored row, the trial, and the row that it would have now."""

    old: Row
    trial: Trial
    new: Row

    @property
    def differences(self) -> dict[str, float]:
        """How far every metric of the stored row is from the new one's; infinite where the new row has none."""
        return {name: _difference(self.old[name], self.new.get(name)) for name in self.metrics}

    @property
    def metrics(self) -> dict[str, float | None]:
        """The metrics of the new row that the stored one has."""
        prefixes = ("train_", "val_", "test_")
        return {
            name: self.new.get(name)
            for name, value in self.old.items()
            if name.startswith(prefixes) and isinstance(value, float)
        }


def stored_trial(key: str, store: Store) -> Row:
    """The row of the trial whose key begins so.

    Raises:
        StudyError: where there is not one such trial, or it failed.

    """
    rows = [row for row in store.read("trials").to_pylist() if row["trial_key"].startswith(key)]
    if len(rows) != 1:
        raise StudyError(
            f"Expected the key of one trial under {store.root}, found {len(rows)} that begin with {key!r}."
        )
    old: Row = rows[0]
    if old["status"] == "failed":
        raise StudyError(f"The trial {old['trial_key']} failed and has no metrics to compare: {old['error']}")
    return old


def repeat(old: Row, store: Store, config: Config) -> Repeated:
    """Train a stored trial again; writes nothing but an audit row where the test fold is opened."""
    spec = TrialSpec.parse(old["config"])
    device = use_device(old["threads"], cuda=old["device"].startswith("cuda"))
    wanted = spec.image_size, spec.channels, config["dataset"]["cache"]
    faces = open_faces(spec.dataset, *wanted, spec.fingerprint)
    trial = Trial(
        spec,
        Faces(faces, device),
        provenance.code(),
        lambda row: store.write("audits", f"{spec.key}-{uuid.uuid4().hex[:8]}", [row]),
        [
            Faces(open_other(one["dataset"], *wanted, one["fingerprint"]), device)
            for one in spec.evaluation.get("transfer", [])
        ],
    )
    records = trial.run()
    for _ in range(old["epochs"]):
        next(records)
    new = trial.finish()["trials"][0] if old["status"] == "done" else trial.row("stopped")
    return Repeated(old, trial, new)


def show(repeated: Repeated, console: Console) -> None:
    """Print the stored and the new metrics, and whether they are equal."""
    old, spec, differences = repeated.old, repeated.trial.spec, repeated.differences
    table = Table(title=f"{old['arm']}, fold {spec.fold}, seed {spec.seed}", title_justify="left")
    for column in ("metric", "stored", "now", ""):
        table.add_column(column)
    for name, value in repeated.metrics.items():
        table.add_row(name, repr(old[name]), repr(value), "differs" if differences[name] else "equal")
    console.print(table)
    console.print(
        f"Metrics differ; the row was made on {old['device']} with {old['versions']}."
        if any(differences.values())
        else "All metrics are equal."
    )


def rerun(key: str, config: Config, console: Console) -> int:
    """Print the stored and the new metrics of a trial; 0 where they are equal, else 1.

    Writes nothing but an audit row where the test fold is opened.

    Raises:
        StudyError: where there is no such trial.

    """
    store = Store(config["storage"]["root"])
    repeated = repeat(stored_trial(key, store), store, config)
    show(repeated, console)
    return 1 if any(repeated.differences.values()) else 0


def _difference(old: float, new: float | None) -> float:
    if old == new:
        return 0.0
    return float("inf") if new is None else abs(old - new)
