"""Plan and carry out studies.

    python study/run.py --search [overrides]            search a space with Optuna on Ray Tune
    python study/run.py --ablation NAME [overrides]     every arm x fold x seed of one ablation, then its table
    python study/run.py [overrides]                     the configured method on every fold and seed
    python study/run.py --resume STUDY                  go on after anything, losing and repeating nothing
    python study/run.py --rerun KEY                     train one trial again and compare its metrics with its row
    python study/run.py --export KEY [--output DIR]     the same, and write its network for python -m mdml.predict
    python study/run.py --simulate study=NAME [...]     what if: the study replayed with other GPUs, schedulers, spot rates, prices
    python study/run.py --dry-run ...                   print the plan, train nothing

Overrides are Hydra's: dataset=folder dataset.root=FOLDER epochs=25. Exit status: 0 done, 1 with trials that failed or that a budget
left, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
# Run as a file, Python puts this folder first on its path: the project's root belongs there.
sys.path[:] = [str(ROOT), *(entry for entry in sys.path if Path(entry or ".").resolve() != ROOT / "study")]

from rich.console import Console  # noqa: E402

from datasets import DatasetError  # noqa: E402
from mdml import MethodError  # noqa: E402
from results import Store, StoreError  # noqa: E402
from study.config import Config, completed, load  # noqa: E402
from study.errors import StudyError  # noqa: E402


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise StudyError(f"{message[0].upper()}{message[1:]}. See python study/run.py --help.")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit status."""
    # What a study writes shows faces of people and says who they are: it is the user's and the group's, and nobody else's.
    os.umask(os.umask(0o077) | 0o007)
    try:
        return _command(_parse(sys.argv[1:] if arguments is None else arguments))
    except (StudyError, DatasetError, MethodError, StoreError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="python study/run.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--search", action="store_true", help="search a space")
    what.add_argument("--ablation", metavar="NAME", help="carry out an ablation")
    what.add_argument("--resume", metavar="STUDY", help="go on with a study")
    what.add_argument("--rerun", metavar="KEY", help="train a trial again and compare")
    what.add_argument("--export", metavar="KEY", help="train a trial again and write its network")
    what.add_argument(
        "--simulate", action="store_true", help="replay a stored study under other settings; see study/whatif.py"
    )
    parser.add_argument("--output", metavar="DIR", help="folder of the exported network")
    parser.add_argument(
        "--tolerance", metavar="X", type=float, default=0.0, help="export although metrics differ from the row's by X"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan, train nothing")
    parser.add_argument("--retrain", action="store_true", help="train anew what other source files made")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="Hydra overrides")
    return parser.parse_intermixed_args(arguments)


def _command(arguments: argparse.Namespace) -> int:
    from study import conduct
    from study.outlook import look_ahead

    console = Console(soft_wrap=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if (arguments.output or arguments.tolerance) and not arguments.export:
        raise StudyError("--output and --tolerance belong to --export KEY: leave them out.")
    if arguments.rerun or arguments.export:
        return _again(arguments, console)
    if arguments.simulate:
        if arguments.dry_run or arguments.retrain:
            raise StudyError("--simulate trains nothing and writes nothing: leave out --dry-run and --retrain.")
        from study.whatif import simulate_command

        return simulate_command(arguments.overrides, console)
    config = _resumed(arguments) if arguments.resume else _composed(arguments)
    if arguments.retrain and config["kind"] == "search":
        raise StudyError(
            "A search is not retrained, since its proposals depend on its own rows: begin another with study=NAME."
        )
    store = Store(config["storage"]["root"])
    if not arguments.dry_run:
        store.check_writable()
    study = conduct.prepare(config, store)
    old = conduct.other_source(study)
    if arguments.retrain:
        study.retrain = {key: times + 1 for key, times in old.items()}
    conduct.show_plan(study, console)
    if old:
        verb = "are trained again" if arguments.retrain else "are reused: --retrain trains them again"
        console.print(f"{len(old)} of the trials in the store were made by other source files than today's and {verb}.")
    outlook = look_ahead(study, console, probe=arguments.dry_run)
    study = outlook.study
    if arguments.dry_run:
        return 0
    # Drawing is slow to import, and a plan or a bad setting needs none of it.
    from study.report import place, report

    try:
        conduct.carry_out(study, outlook)
    except KeyboardInterrupt:
        resume = f"python study/run.py --resume {study.name}{place(config)}"
        print(f"Interrupted; what was finished is kept. Go on with: {resume}", file=sys.stderr)
        return 130
    return report(study, console)


def _again(arguments: argparse.Namespace, console: Console) -> int:
    """Train one stored trial again."""
    if arguments.dry_run or arguments.retrain:
        one = "--rerun" if arguments.rerun else "--export"
        raise StudyError(f"{one} trains one trial and writes no result: leave out --dry-run and --retrain.")
    place = _place(arguments.overrides)
    if arguments.rerun:
        from study.rerun import rerun

        return rerun(arguments.rerun, place, console)
    if not 0 <= arguments.tolerance < 1:
        raise StudyError(f"Expected --tolerance to be 0 or more and below 1, found {arguments.tolerance}.")
    from study.export import export

    return export(arguments.export, arguments.output, arguments.tolerance, place, console)


def _composed(arguments: argparse.Namespace) -> Config:
    config = load(arguments.overrides, arguments.ablation)
    config["kind"] = "search" if arguments.search else "ablation" if arguments.ablation else "method"
    config["overrides"] = list(arguments.overrides)
    return config


def _resumed(arguments: argparse.Namespace) -> Config:
    place = _place(arguments.overrides)
    rows = [
        row for row in Store(place["storage"]["root"]).read("studies").to_pylist() if row["study"] == arguments.resume
    ]
    if not rows:
        raise StudyError(
            f"There is no study {arguments.resume} under {place['storage']['root']}: set storage.root, or see what is there with "
            "python results/query.py."
        )
    config = completed(json.loads(rows[0]["config"]))
    if "dataset.cache" in place["given"]:
        config["dataset"]["cache"] = place["dataset"]["cache"]
    given = [name.removeprefix("budget.") for name in place["given"] if name.startswith("budget.")]
    config["budget"] |= {name: place["budget"][name] for name in given}
    return config | {"study": arguments.resume} | {name: place[name] for name in ("storage", "cluster", "checkpoint")}


def _place(overrides: list[str]) -> dict[str, Any]:
    """The configuration of a command that takes its study from the store: only where and how to run can be said."""
    for text in overrides:
        if not text.startswith(
            ("storage.", "storage=", "cluster.", "cluster=", "checkpoint.", "budget.", "dataset.cache=")
        ):
            raise StudyError(
                f"A stored study keeps its configuration: expected only storage., cluster., checkpoint., budget. or dataset.cache= "
                f"overrides, found {text!r}."
            )
    return load(overrides)


if __name__ == "__main__":
    sys.exit(main())
