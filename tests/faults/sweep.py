"""Print what faults lose and double: every kind, at every moment of three studies.

python -m tests.faults.sweep [STEP [KIND ...]]

STEP leaves moments out, and each KIND is one of tests.faults.played.KINDS.
"""

import sys
import tempfile
from pathlib import Path

from tests.faults.harness import Played
from tests.faults.played import KINDS

if __name__ == "__main__":
    step = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    print("| fault | moments | struck | rows lost | rows doubled or changed |\n|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        studies = [Played(name, Path(folder) / name) for name in ("table", "search", "race")]
        for kind in sys.argv[2:] or KINDS:
            outcomes = [study.strike(kind, moment) for study in studies for moment in range(0, study.moments, step)]
            struck, lost, more, _ = map(sum, zip(*outcomes, strict=True))
            print(f"| {KINDS[kind]} | {len(outcomes)} | {struck} | {lost} | {more} |", flush=True)
