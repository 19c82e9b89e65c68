"""Write the report of a study: one HTML page, from the store alone, that needs no network.

python results/report.py STUDY [storage.root=FOLDER] [--output FILE]

STUDY is a study, or an ablation, whose latest study is meant. The page is written to reports/STUDY/report.html of the store,
in one step: a reader sees the old page or the new one.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # run as a file, Python would look for modules in results/

import argparse  # noqa: E402 - the path comes first
import os  # noqa: E402
import re  # noqa: E402
from collections.abc import Sequence  # noqa: E402
from typing import NoReturn  # noqa: E402

from results import Store, StoreError  # noqa: E402
from results.files import write_file  # noqa: E402
from results.page import page  # noqa: E402
from results.tables import find_study  # noqa: E402

DEFAULT_STORE = ROOT / "results" / "tables"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def write_report(store: Store, study: str, path: Path | None = None, live: bool = False) -> Path:
    """Write the page of a study.

    Args:
        store: the results.
        study: its name.
        path: where to; None for reports/STUDY/report.html of the store.
        live: whether a browser should look again until the study is finished.

    Returns:
        where it was written.

    Raises:
        StoreError: there is no such study, it cannot be read, or the file cannot be written.

    """
    text = page(store, study, live)
    if path is None:
        if "://" in str(store.root):
            raise StoreError(f"The store is {store.root}: say where to write in --output FILE.")
        if not NAME.fullmatch(study):
            raise StoreError(f"The study {study} has a name that makes no folder: say where to write in --output FILE.")
        path = Path(store.root) / "reports" / study / "report.html"
    try:
        write_file(path, text.encode())
    except OSError as error:
        raise StoreError(f"Expected a file that can be written, found {path}: {error.strerror}.") from error
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status, 2 for what cannot be written."""
    try:
        given = _arguments(sys.argv[1:] if arguments is None else arguments)
        if given.live:
            os.nice(10)  # the study goes first
        store = Store(given.root)
        if store.is_empty():
            raise StoreError(f"There are no results in {store.root}: run a study first, or set storage.root=FOLDER.")
        study = given.study if given.live else find_study(store, given.study)
        print(write_report(store, study, given.output, given.live))
    except StoreError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise StoreError(f"{message[:1].upper()}{message[1:]}. See python results/report.py --help.")


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(prog="results/report.py", description=__doc__, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("words", nargs="*", metavar="STUDY or storage.root=FOLDER")
    parser.add_argument("--output", type=Path, metavar="FILE")
    parser.add_argument(
        "--live",
        action="store_true",
        help="of the study of this very name: a page that a browser reads again until it is finished",
    )
    given = parser.parse_intermixed_args(arguments)
    given.root, studies = str(DEFAULT_STORE), []
    for word in given.words:
        name, equals, value = word.partition("=")
        if not equals:
            studies.append(word)
        elif name != "storage.root":
            raise StoreError(f"There is no setting {name}; there is storage.root.")
        else:
            given.root = value
    if len(studies) != 1:
        raise StoreError(f"Expected one study, found {' and '.join(studies) or 'none'}.")
    given.study = studies[0]
    return given


if __name__ == "__main__":
    sys.exit(main())
