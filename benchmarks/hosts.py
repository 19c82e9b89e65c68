"""What a trial costs beside its training when its study runs on one machine, and on clusters of 1, 2 and 4 hosts of one CPU each.

    python benchmarks/hosts.py        (as root, with iproute2, openssh-server and rsync)

The hosts are made of namespaces of this machine (tests/cluster/machines.py), the clusters by `ray up`, the study is sent by
`python study/cluster.py submit`, and its rows go to an S3 server on a host of its own. Hosts share this machine's cores, so that more of
them are no faster: what is compared is the time that a host spends between the end of one trial's evaluation and that of the next, less
the seconds of the latter's row, which begin with its set-up. That is the commit of its rows to S3, and the next trial's way to a warm
worker. The peer is the same study on one machine, with a Ray of its own, into the same S3.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from statistics import mean, median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.cluster.desk import Desk
from tests.cluster.machines import ROOT, Lab, lacking

ROWS = """
import json
from results import Store
rows = Store(sys.argv[1]).read("trials", ["host", "started_at", "ended_at", "seconds"]).to_pylist()
print(json.dumps([[row["host"], row["started_at"].timestamp(), row["ended_at"].timestamp(), row["seconds"]] for row in rows]))
"""


def study(name: str, trials: int) -> list[str]:
    """The words of a study of short trials."""
    tiny = ["dataset.subjects=4", "dataset.per_class=1", "image_size=16", "epochs=1", "folds=2"]
    return ["method=softmax", f"seeds={trials // 2}", f"study={name}", *tiny, f"storage.root=s3://faces/{name}"]


def line(name: str, rows: list[tuple[str, float, float, float]]) -> str:
    """A row of the table."""
    gaps, hosts = [], {row[0] for row in rows}
    for host in hosts:
        ours = sorted((end, seconds) for where, _, end, seconds in rows if where == host)
        gaps += [end - before - seconds for (before, _), (end, seconds) in pairwise(ours)]
    whole = max(end for _, _, end, _ in rows) - min(begin for _, begin, _, _ in rows)
    trained = mean(seconds for *_, seconds in rows)
    tenth = sorted(gaps)[int(0.9 * len(gaps))]
    return f"| {name} | {len(hosts)} | {len(rows)} | {trained:.2f} | {median(gaps):.2f} | {tenth:.2f} | {whole / len(rows):.2f} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=40, help="of each study: an even number, since there are 2 folds")
    count = parser.parse_args().trials
    if count < 20 or count % 2:
        parser.error(f"--trials: expected an even number from 20 on, found {count}.")
    if reason := lacking():
        print(f"hosts.py {reason}.")
        return
    names = {"cli": 5, "s3": 6, "alone": 7, "head": 10, **{f"w{index}": 10 + index for index in (1, 2, 3, 4)}}
    lines = []
    with tempfile.TemporaryDirectory() as folder, Lab(Path(folder) / "lab", names) as lab:
        desk = Desk(lab)
        desk.serve("faces")
        lab["alone"].take(desk.home / ".aws")
        sets = f"dataset.cache={lab.folder / 'sets'}"
        words = [*study("alone", count), sets, "cluster.workers=1"]
        done = lab["alone"].run(desk.python, ROOT / "study" / "run.py", *words, timeout=300)
        assert done.returncode == 0, done.stderr
        found = {"one machine": "alone"}
        for hosts in (1, 2, 4):
            file = desk.file(f"of-{hosts}", lab["head"], *(lab[f"w{index + 1}"] for index in range(hosts)))
            desk.run("up", file)
            desk.run("submit", file, *study(f"of-{hosts}", count), "dataset.cache=s3://faces/sets")
            desk.run("down", file)
            print(f"{hosts} done", file=sys.stderr, flush=True)
            found[f"cluster of {hosts}"] = f"of-{hosts}"
            for machine in ("head", *(f"w{index + 1}" for index in range(hosts))):
                lab[machine].kill()
                lab[machine].start()
            (desk.home / ".ssh" / "known_hosts").unlink()  # They come back with other keys.
        for name, root in found.items():
            lines.append(line(name, json.loads(desk.code(ROWS, f"s3://faces/{root}"))))
    print(f"{platform.machine()}, Python {platform.python_version()}\n")
    print(
        "| | hosts that trained | trials | a trial's seconds | beside them, median | 90th percentile | wall a trial |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
