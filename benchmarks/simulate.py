"""What it costs to replay recorded searches of 1,000 and of 100,000 trials.

    python benchmarks/simulate.py

The stores are generated: one search, 10 epochs a trial, written as a compaction writes it; nine trials of ten were stopped at the first
rung, so that a replay without early stopping has to extend their curves. "read" is from the store to memory; a "replay" is one pass
over all trials on 64 (1,000) GPUs, four trials each, reclaimed 0.05 times an hour, with ASHA and without; "events" are its reports and
reclaims. The interpreter's start and its imports are not counted. Targets: read and replayed in under 1 s and under 60 s.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import pyarrow as pa

from results.compacted import ORIGIN, REPLACES
from results.compaction import _write, _write_bytes
from results.files import RANK, conform
from results.index import index_bytes
from results.layout import INDEX, Generation, Layout
from results.schema import TABLES
from results.store import Store
from study.replay import recorded
from study.simulate import Machines, simulate
from study.stopping import Stopping
from study.sweep import _extend

EPOCHS, GRACE, REDUCTION = 10, 2, 3
CONFIG = {"kind": "search", "epochs": EPOCHS, "search": {"grace": GRACE, "reduction": REDUCTION, "brackets": 1}}


def generate(root: Path, total: int) -> Store:
    """A compacted store of one search."""
    rng, layout = np.random.default_rng(total), Layout(root)
    keys = np.array([f"{n:032x}" for n in range(total)])
    trained = np.where(rng.random(total) < 0.1, EPOCHS, GRACE)
    status = np.where(trained == EPOCHS, "done", "stopped")
    numbers = np.repeat(np.arange(total), trained)
    epoch = np.concatenate([np.arange(1, count + 1) for count in trained])
    accuracy = (rng.beta(4, 2, total)[numbers] * (1 - np.exp(-epoch / 3)) + rng.normal(0, 0.02, len(epoch))).clip(0, 1)
    pace = rng.gamma(9, 3, total)
    seconds, begun = pace * trained + 3, int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1e6)
    last = np.cumsum(trained) - 1
    start = begun + 12_000_000 + ((np.cumsum(seconds) - seconds) * 1e6).astype(np.int64)
    same: dict[str, Any] = {"study": ["generated"] * total, "trial_key": keys}
    trials = same | {
        "method": np.array(["softmax", "triplet", "mul_dml"])[np.arange(total) % 3],
        "status": status,
        "stopped_by": [None if one == "done" else "asha" for one in status],
        "epochs": trained,
        "epochs_planned": [EPOCHS] * total,
        "seconds": seconds,
        "setup_seconds": [1.0] * total,
        "val_accuracy": accuracy[last],
        "device": ["generated"] * total,
        "host": ["generated"] * total,
        "started_at": start,
        "ended_at": start + (seconds * 1e6).astype(np.int64),
    }
    curves = {"trial_key": keys[numbers], "epoch": epoch, "val_accuracy": accuracy, "seconds": pace[numbers]}
    members = same | {
        "index": np.arange(total),
        "fold": [0] * total,
        "seed": [0] * total,
        ORIGIN: ["generated"] * total,
    }
    study = {"study": "generated", "kind": "search", "metric": "val_accuracy", "config": json.dumps(CONFIG)}
    studies = {name: [value] for name, value in (study | {"created_at": begun, ORIGIN: "generated"}).items()}

    def rows(values: dict[str, Any], table: str, also: pa.Field, rank: Any = None) -> Iterator[pa.Table]:
        ranked = values if rank is None else values | {RANK: rank}
        yield conform(pa.table(ranked), TABLES[table].schema.append(also))

    files = {}
    for table, values, rank in (("trials", trials, np.arange(total)), ("epochs", curves, numbers)):
        found = rows(values, table, pa.field(RANK, pa.int64()), rank)
        files[table] = _write(layout, table, TABLES[table].schema, found)
    for table, values in (("members", members), ("studies", studies)):
        origin = pa.field(ORIGIN, pa.string())
        schema = TABLES[table].schema.append(origin)
        files[table] = _write(layout, table, schema, rows(values, table, origin), {REPLACES: "[]"})
    standings = {"trial_key": keys.astype("S32"), "status": np.where(status == "done", 2, 1).astype(np.int8)}
    standings |= {"retrained": np.zeros(total, np.int32), "ended": np.zeros(total, np.int64), "row": np.arange(total)}
    files[INDEX] = _write_bytes(layout, INDEX, index_bytes(standings, ()))
    layout.write_manifest([Generation(total, {name: file for name, file in files.items() if file})])
    return Store(root)


def measure(folder: Path, total: int, gpus: int) -> None:
    """Print what reading and replaying cost."""
    store = generate(folder / str(total), total)
    start = time.perf_counter()
    recording = recorded(store, "generated")
    read = time.perf_counter() - start
    print(
        f"\n{total:,} trials, {sum(len(trial.values) for trial in recording.trials):,} recorded epochs: read in {read:.2f} s"
    )
    machines = Machines(
        gpus=gpus, packing=4, slowdown=2.0, reclaims=0.05, startup=180, idle=300, first=12, gap=0.1, checkpoint=2
    )
    for name in ("asha", "none"):
        rules = Stopping(EPOCHS, GRACE, REDUCTION) if name == "asha" else None
        rng = np.random.default_rng(0)
        start = time.perf_counter()
        outcome = simulate(recording.trials, machines, rules, partial(_extend, recording, rng, set()), rng)
        took = time.perf_counter() - start
        print(
            f"{name}: replayed in {took:.2f} s, {outcome.events:,} events, {took / outcome.events * 1e6:.1f} us each; with reading "
            f"{read + took:.2f} s"
        )


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[1_000, 100_000])
    given = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as scratch:
        for total in given.trials:
            measure(Path(scratch), total, gpus=min(64 if total <= 1000 else 1000, total))


if __name__ == "__main__":
    main()
