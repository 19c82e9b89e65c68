"""What the predictions say, image by image: accuracy over all test images with an interval over people, and McNemar's tests.

The unit of `results/comparison.py` is the fold, and its intervals speak of networks trained on other people. Here the networks are
taken as they were trained, and the people that they were tested on are what varies: a bootstrap that draws people within their
fold, and tests that flip whole people. Images of one person are alike, and are never taken as independent but in the plain
test of McNemar, which stands beside for comparison with papers that report it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from results.errors import StoreError
from results.render import Place, Table
from results.replication import StudyRows, study_rows
from results.resampling import Counts, accuracy, balanced_accuracy, bootstrap_interval, macro_f1, subject_confusions
from results.signflips import discordance, mcnemar, mcnemar_of_subjects
from results.stats import Interval, holm
from results.store import Store
from results.wording import bounds, digits, p_value

Codes = npt.NDArray[np.int64]
# The metrics of `trials` that are a function of the confusion matrix of the decisions.
STATISTICS: dict[str, Callable[[Counts], Counts]] = {
    "test_accuracy": accuracy,
    "test_balanced_accuracy": balanced_accuracy,
    "test_macro_f1": macro_f1,
    "test_sequence_accuracy": accuracy,
}
SEED = 0  # of the resampling: the same store gives the same table


@dataclass(frozen=True)
class Decisions:
    """What an arm decided on its test folds, one element a decision, in the order of fold, seed and unit.

    Attributes:
        fold: of each decision.
        seed: of each decision.
        unit: the image, or the sequence where the metric is about sequences.
        label: its class.
        predicted: the class decided for it.
        subject: the person, unlike that of any other fold.

    """

    fold: Codes
    seed: Codes
    unit: Codes
    label: Codes
    predicted: Codes
    subject: Codes

    def __len__(self) -> int:
        """Number of decisions."""
        return len(self.fold)

    def confusions(self, classes: int) -> tuple[list[int], Counts]:
        """Fold and confusion matrix (S, C, C) of each person."""
        names, counts = subject_confusions(self.label, self.predicted, self.subject.tolist(), classes)
        fold_of = dict(zip(self.subject.tolist(), self.fold.tolist(), strict=True))
        return [fold_of[name] for name in names], counts

    def at(self, keep: npt.NDArray[Any]) -> "Decisions":
        """Some of them."""
        return Decisions(*(getattr(self, name)[keep] for name in self.__dataclass_fields__))


def decisions(store: Store, rows: StudyRows) -> dict[str, Decisions]:
    """The decisions of each arm that has some; none where the metric is not made of them."""
    keys = {key: (arm.name, *place) for arm in rows.arms() for place, key in arm.keys.items()}
    if rows.metric not in STATISTICS or not keys:
        return {}
    sequences = rows.metric == "test_sequence_accuracy"
    columns = ["trial_key", "image", "label", "predicted", "subject", *(["sequence", "scores"] if sequences else [])]
    found = store.read("predictions", columns, rows.study["study"], keys)
    trial, names = _codes(found["trial_key"])
    arms = list(dict.fromkeys(arm for arm, _, _ in keys.values()))
    arm, fold, seed = (
        np.array([value[axis] if axis else arms.index(value[0]) for value in (keys[name] for name in names)], np.int64)[
            trial
        ]
        for axis in range(3)
    )
    label, predicted, unit = (found[name].to_numpy().astype(np.int64) for name in ("label", "predicted", "image"))
    subject = fold * (1 + len(found)) + _codes(found["subject"])[0]
    if sequences:
        unit = _codes(found["sequence"])[0] * (label.max(initial=0) + 1) + label  # frames of one class decide together
        first, predicted = _together(trial, unit, found["scores"].combine_chunks())
        arm, fold, seed, unit, label, subject = (column[first] for column in (arm, fold, seed, unit, label, subject))
    order = np.lexsort((unit, seed, fold))
    whole = Decisions(*(column[order] for column in (fold, seed, unit, label, predicted, subject)))
    known = {name: whole.at(arm[order] == place) for place, name in enumerate(arms)}
    return {name: one for name, one in known.items() if len(one)}


def pooled(ours: Decisions, metric: str) -> tuple[Interval, int]:
    """The metric over all decisions of an arm, its 95 % interval over people, and the number of these."""
    folds, counts = ours.confusions(_classes(ours))
    return bootstrap_interval(counts, folds, STATISTICS[metric], SEED), len(folds)


def mcnemar_table(store: Store, study: str) -> Table:
    """McNemar's tests of every arm of a study against the baseline, on the images that both were tested on by the same fold and seed.

    Raises:
        StoreError: there are no predictions to compare.

    """
    rows = study_rows(store, study)
    made, arms = decisions(store, rows), {arm.name: arm for arm in rows.arms()}
    found = []
    for arm in arms.values():
        base = arms.get(arm.reference)
        if base is not None and base is not arm and arm.name in made and base.name in made:
            keys = [known.keys[place] for known in (arm, base) for place in sorted(set(arm.keys) & set(base.keys))]
            if row := _compared(made[arm.name], made[arm.reference], rows.metric):
                found.append(
                    {"arm": arm.name, "baseline": arm.reference, "metric": rows.metric, "trial_keys": keys} | row
                )
    if not found:
        raise StoreError(
            f"McNemar's test needs two arms with predictions for the same images, found none in {study}: it is made of "
            f"{', '.join(STATISTICS)}, after training."
        )
    for row, corrected in zip(found, holm([row["p_subjects_exact"] for row in found]), strict=True):
        row["p_holm"] = corrected
    what = "sequence" if rows.metric == "test_sequence_accuracy" else "image"
    reference = found[0]["baseline"]
    header = ("arm", f"{what}s", "people", "seeds", "only it right", f"only {reference} right", f"p ({what}s)", "mid-p", "p (people)",
              "p (people, Holm)", "difference", "95 % CI over people")  # fmt: skip
    shown = [
        (row["arm"], *(str(row[name]) for name in ("images", "subjects", "seeds", "only_arm", "only_baseline")),
         *(p_value(row[name]) for name in ("p", "p_mid", "p_subjects_exact", "p_holm")), digits(row["difference"], rows.metric, "+"),
         bounds(row["low"], row["high"], rows.metric, "+"))
        for row in found
    ]  # fmt: skip
    caption = (
        f"McNemar's tests of {study} against {reference} on the test {what}s that both decided on by the same fold and seed, counted as "
        f"decisions that only one has right. p ({what}s) and mid-p are exact, by flipping the sign of each {what} (its balance over the "
        f"seeds): {what}s of one person are not independent, so that these two are too small. p (people) flips whole people and is the "
        "one to go by; Holm over the arms. The interval is a BCa bootstrap of people within their folds. All of it takes the networks "
        "as they were trained: it speaks of other people judged by them, not of networks trained on other people."
    )
    keys_of: dict[Place, tuple[str, ...]] = {
        (place, column): tuple(row["trial_keys"]) for place, row in enumerate(found) for column in range(1, len(header))
    }
    values = [tuple((row | {"notes": NOTE}).get(name) for name in COLUMNS) for row in found]
    return Table(COLUMNS, values, caption, (header, shown), keys=keys_of)


COLUMNS = (
    *("arm", "baseline", "metric", "images", "subjects", "seeds", "only_arm", "only_baseline", "p", "p_mid"),
    *("chi2_subjects", "p_subjects", "p_subjects_exact", "p_holm", "difference", "low", "high", "notes", "trial_keys"),
)
NOTE = (
    "p and p_mid take images as independent, which images of one person are not: they are too small; p_subjects (Obuchowski's chi2) and "
    "p_subjects_exact (sign flips) have people as units, p_holm corrects the latter. All take the networks as they were trained."
)


def _compared(ours: Decisions, theirs: Decisions, metric: str) -> dict[str, Any]:
    """The tests of one arm against another; nothing where they share no decision."""
    width = max(ours.unit.max(), theirs.unit.max()) + 1
    span = max(ours.seed.max(), theirs.seed.max()) + 1
    places = [(one.fold * span + one.seed) * width + one.unit for one in (ours, theirs)]
    _, mine, other = np.intersect1d(*places, return_indices=True)
    if not len(mine):
        return {}
    a, b = ours.at(mine), theirs.at(other)
    seen: Mapping[str, Any] = {name: getattr(a, name).tolist() for name in ("label", "predicted", "subject")}
    units = (a.fold * width + a.unit).tolist()
    by_unit = discordance(seen["label"], seen["predicted"], b.predicted.tolist(), units)
    by_subject = discordance(seen["label"], seen["predicted"], b.predicted.tolist(), seen["subject"])
    classes = max(_classes(a), _classes(b))
    (folds, our), (_, their) = a.confusions(classes), b.confusions(classes)
    statistic = STATISTICS[metric]
    difference, low, high = bootstrap_interval(
        np.stack([our, their], 1),
        folds,
        lambda both: statistic(both[..., 0, :, :]) - statistic(both[..., 1, :, :]),
        SEED,
    )
    p, p_mid = mcnemar(*by_unit)
    chi2, p_subjects, exact = mcnemar_of_subjects(*by_subject)
    counted = {"images": len(by_unit[0]), "subjects": len(folds), "seeds": len(set(a.seed.tolist()))}
    only = {"only_arm": sum(by_unit[0]), "only_baseline": sum(by_unit[1]), "p": p, "p_mid": p_mid}
    whole = {"chi2_subjects": chi2, "p_subjects": p_subjects, "p_subjects_exact": exact}
    return counted | only | whole | {"difference": difference, "low": low, "high": high}


def _codes(column: pa.ChunkedArray) -> tuple[Codes, list[Any]]:
    """Number of each value in the order of the values, so that the order of the rows makes no difference, and the values."""
    encoded = column.cast(pa.string()).combine_chunks().fill_null("").dictionary_encode()
    values = encoded.dictionary.to_pylist()
    order = sorted(range(len(values)), key=values.__getitem__)
    rank = np.empty(len(values), np.int64)
    rank[order] = np.arange(len(values))
    return rank[encoded.indices.to_numpy(zero_copy_only=False)], [values[place] for place in order]


def _together(trial: Codes, unit: Codes, scores: pa.ListArray) -> tuple[Codes, Codes]:
    """Where each trial's units first occur, and the class with the largest sum of scores, as `mdml.metrics.sequence_accuracy` decides."""
    _, first, inverse = np.unique(trial * (unit.max(initial=0) + 1) + unit, return_index=True, return_inverse=True)
    table = scores.flatten().to_numpy(zero_copy_only=False).astype(float).reshape(len(trial), -1)
    sums = np.zeros((len(first), table.shape[1]))
    np.add.at(sums, inverse, table)
    return first, sums.argmax(1)


def _classes(ours: Decisions) -> int:
    return int(max(ours.label.max(), ours.predicted.max())) + 1
