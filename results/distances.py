"""The stored distributions of distances of a study: by arm and slice, and how far they lie apart."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from results.errors import StoreError
from results.render import Table
from results.store import Store
from results.tables import study_rows

BINS, FARTHEST = 100, 2.0


@dataclass
class Distribution:
    """Distances of one slice of one arm, pooled over its trials.

    Attributes:
        arm: its name.
        slice: from 0.
        slices: of the arm.
        threshold: of the slice, or None.
        counts: pairs (100,) in bins of equal width on [0, 2], by kind: inter or intra.

    """

    arm: str
    slice: int
    slices: int
    threshold: float | None
    counts: dict[str, list[int]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The arm, and the slice where it has several."""
        return self.arm if self.slices == 1 else f"{self.arm}, slice {self.slice + 1}"


def distributions(store: Store, study: str, split: str = "test") -> list[Distribution]:
    """The distributions of a study on a split, arms in the order of the plan.

    Raises:
        StoreError: there is no such study, or no trial of it has distances.

    """
    arms: dict[str, list[str]] = defaultdict(list)
    for row in study_rows(store, study).members:
        arms[row["trial_key"]].append(row["arm"])
    names = ["trial_key", "split", "slice", "threshold", "kind", "first_class", "counts"]
    found: dict[tuple[str, int], Distribution] = {}
    slices: dict[str, int] = defaultdict(int)
    for row in store.read("distances", names, study).to_pylist():
        if row["split"] != split or row["first_class"] is not None or row["counts"] is None:
            continue
        for arm in arms[row["trial_key"]]:
            one = found.setdefault((arm, row["slice"]), Distribution(arm, row["slice"], 1, row["threshold"]))
            known = one.counts.get(row["kind"], [0] * BINS)
            one.counts[row["kind"]] = [a + b for a, b in zip(known, row["counts"], strict=True)]
            slices[arm] = max(slices[arm], row["slice"] + 1)
    if not found:
        raise StoreError(
            f"The study {study} has no distances of {split} images in {store.root}: train its trials first."
        )
    for one in found.values():
        one.slices = slices[one.arm]
    places = {arm: place for place, arm in enumerate(dict.fromkeys(arm for trial in arms.values() for arm in trial))}
    return sorted(found.values(), key=lambda one: (places[one.arm], one.slice))


def density(counts: Sequence[int]) -> list[float]:
    """Share of the pairs per unit of distance, in each bin."""
    width, total = FARTHEST / BINS, sum(counts)
    return [count / (total * width) for count in counts]


def wasserstein(one: Sequence[int], other: Sequence[int]) -> float:
    """Wasserstein-1 distance of two distributions given by their counts: the area between their cumulative shares."""
    ours, theirs = accumulate(density(one)), accumulate(density(other))
    return sum(abs(a - b) for a, b in zip(ours, theirs, strict=True)) * (FARTHEST / BINS) ** 2


def wasserstein_matrix(found: Sequence[Distribution], kind: str = "inter") -> list[list[float]]:
    """Wasserstein-1 distances of all pairs of distributions that have the kind."""
    counts = [one.counts[kind] for one in found if kind in one.counts]
    return [[wasserstein(one, other) for other in counts] for one in counts]


def summary(counts: Sequence[int]) -> dict[str, float]:
    """Mean, standard deviation, 5th and 95th percentile from the counts, as if pairs were spread evenly over a bin."""
    width, total = FARTHEST / BINS, sum(counts)
    middles = [(place + 0.5) * width for place in range(BINS)]
    mean = sum(m * count for m, count in zip(middles, counts, strict=True)) / total
    variance = sum((m - mean) ** 2 * count for m, count in zip(middles, counts, strict=True)) / total
    low, high = (_percentile(counts, share * total) for share in (0.05, 0.95))
    return {"mean": mean, "std": variance**0.5, "p5": low, "p95": high}


def _percentile(counts: Sequence[int], below: float) -> float:
    """The distance that `below` pairs stay under."""
    passed = 0
    for place, count in enumerate(counts):
        if passed + count >= below:
            return (place + (below - passed) / count) * FARTHEST / BINS
        passed += count
    return FARTHEST


def distances_table(found: Sequence[Distribution]) -> Table:
    """One row per distribution and kind."""
    rows = [
        (one.name, one.threshold, kind, sum(one.counts[kind]), *summary(one.counts[kind]).values())
        for kind in ("inter", "intra")
        for one in found
        if kind in one.counts
    ]
    return Table(("arm", "threshold", "kind", "pairs", "mean", "std", "p5", "p95"), rows)


def wasserstein_table(found: Sequence[Distribution], kind: str = "inter") -> Table:
    """The matrix of Wasserstein-1 distances, with its names."""
    names = [one.name for one in found if kind in one.counts]
    rows = [(name, *row) for name, row in zip(names, wasserstein_matrix(found, kind), strict=True)]
    return Table((f"Wasserstein-1, {kind}", *names), rows)
