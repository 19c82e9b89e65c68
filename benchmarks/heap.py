"""What a training step costs where malloc keeps what a step frees, as workers tell it to, and where it does as it likes.

    python benchmarks/heap.py

ResNet-18, Adam, cross-entropy, batches of 32, one CPU thread, nothing of ours but `study.health.HEAP`, which is in the environment of one
process and not of the other. The two take turns; printed are the medians of the process's own time a step, and the most memory it had.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

STEPS, WARM = 20, 5


def steps(side: int) -> None:
    """Print CPU milliseconds of a step, and MiB."""
    import torch
    from torchvision.models import resnet18

    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = resnet18().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters())
    images = torch.randn(32, 3, side, side).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 7, (32,))
    begun = 0.0
    for step in range(WARM + STEPS):
        if step == WARM:
            begun = time.process_time()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print((time.process_time() - begun) / STEPS * 1000, most)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="+", default=[24, 64, 112])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, metavar="SIDE", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.steps:
        return steps(asked.steps)
    from study.health import HEAP

    bare = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    print(f"{platform.machine()}, {' '.join(platform.libc_ver())}, Python {platform.python_version()}\n")
    print("| pixels | kept, CPU ms | not, CPU ms | ratio | kept, MiB | not, MiB |\n|---:|---:|---:|---:|---:|---:|")
    for side in asked.sides:
        found: list[list[tuple[float, int]]] = [[], []]
        for _ in range(asked.repeats):
            for of, environment in zip(found, (bare | HEAP, bare), strict=True):
                command = [sys.executable, __file__, "--steps", str(side)]
                done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
                milliseconds, most = done.stdout.split()
                of.append((float(milliseconds), int(most)))
        ours, theirs = (statistics.median(time for time, _ in of) for of in found)
        ratio = statistics.median(a / b for (a, _), (b, _) in zip(*found, strict=True))
        kept, freed = (max(most for _, most in of) for of in found)
        print(f"| {side} | {ours:.1f} | {theirs:.1f} | {ratio:.2f} | {kept} | {freed} |", flush=True)
    return None


if __name__ == "__main__":
    main()
