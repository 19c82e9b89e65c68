"""Bootstrap intervals over subjects, from predictions.

Images of one person are alike, so that people are resampled, each with all of their images. What a subject adds to a metric
is a table of counts (the confusion matrix of their images), and a resample is a weighted sum of such tables: any metric of
the confusion matrix, and any difference between two arms, takes the same road.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri, stdtrit

from results.stats import Interval

Counts = npt.NDArray[np.float64]


def subject_confusions(
    labels: npt.ArrayLike, predicted: npt.ArrayLike, subjects: Sequence[Hashable], classes: int
) -> tuple[list[Hashable], Counts]:
    """The confusion matrix of each subject.

    Example: labels 0, 1 and predictions 0, 0 of one subject give [[1, 0], [1, 0]].

    Args:
        labels: class of each image; over several folds and seeds, of each prediction.
        predicted: class predicted for it.
        subjects: person in it.
        classes: number of classes C.

    Returns:
        the subjects (S) in the order in which they first appear; counts (S, C, C), true class first.

    """
    names = list(dict.fromkeys(subjects))
    place = {name: index for index, name in enumerate(names)}
    whose = np.array([place[subject] for subject in subjects], np.int64)
    flat = (whose * classes + np.asarray(labels)) * classes + np.asarray(predicted)
    return names, np.bincount(flat, minlength=len(names) * classes**2).astype(float).reshape(-1, classes, classes)


def accuracy(confusion: Counts) -> Counts:
    """Share of the diagonal of confusion matrices (..., C, C): their accuracy over all images."""
    shares: Counts = np.trace(confusion, axis1=-2, axis2=-1) / confusion.sum((-2, -1))
    return shares


def balanced_accuracy(confusion: Counts) -> Counts:
    """Mean recall of confusion matrices (..., C, C) over the classes that occur in each."""
    right, support = np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(-1)
    return _mean_where(right, support)


def macro_f1(confusion: Counts) -> Counts:
    """Mean F1 of confusion matrices (..., C, C) over the classes that occur or are predicted in each."""
    right, either = np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(-1) + confusion.sum(-2)
    return _mean_where(2 * right, either)


def bootstrap_interval(
    counts: npt.ArrayLike,
    strata: Sequence[Hashable],
    statistic: Callable[[Counts], Counts],
    seed: int,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """Stratified bootstrap interval of a statistic of summed counts: BCa, with subjects as units.

    Of the n_h subjects of stratum h, n_h - 1 are drawn with replacement and each draw weighs n_h / (n_h - 1) (Rao and Wu, JASA
    83, 1988, section 2): drawing n_h would make the variance too small by (n_h - 1) / n_h, which tells in folds of
    ten subjects. The ends are Efron's bias-corrected and accelerated percentiles (Efron and Tibshirani, An introduction to the
    bootstrap, 1993, equations 14.9, 14.10, 14.14 and 14.15), with the acceleration from a jackknife within the strata and Student's
    quantiles in place of the normal ones (Hesterberg, The American Statistician 69, 2015, expanded percentiles), without which
    intervals over thirty subjects cover 91 to 92 %. scipy's bootstrap knows neither the weights nor units of several images.

    The interval speaks of new subjects from the same strata, judged by the models that were trained; how the models would vary with
    other training subjects is what `stats.mean_interval` is about. Strata are what was fixed when the subjects were
    chosen: the folds, whose models differ, or the class where each person shows one. Subjects that are alone in their stratum
    (leave-one-subject-out) are taken together, since one subject shows no spread, and the last of them joins the
    smallest other stratum.

    Example: counts [right, images] of (1, 1) and (0, 1) in one stratum: one subject is drawn and counted twice, so that the
    accuracy of a resample is 0 or 1, and so are the ends of the interval around 1/2.

    Args:
        counts: one table of any shape per subject (S, ...); to compare two arms stack theirs as (S, 2, C, C).
        strata: stratum of each subject, such as its fold.
        statistic: takes summed tables (R, ...) and returns (R,); for example `accuracy`, or
            lambda both: accuracy(both[:, 0]) - accuracy(both[:, 1]).
        seed: of the resampling; the same seed gives the same interval.
        resamples: R.
        confidence: probability in (0, 1).

    Returns:
        the statistic of all subjects, low, high; None for both where there is a single subject, or where no resample differs from it.

    """
    tables = np.asarray(counts, float)
    if len(tables) != len(strata):
        raise ValueError(f"Every subject has a stratum, found {len(tables)} subjects and {len(strata)} strata.")
    total = float(statistic(tables.sum(0)[None])[0])
    members = _strata(strata)
    if len(strata) < 2:
        return total, None, None
    values = statistic(np.tensordot(_weights(tuple(map(tuple, members)), seed, resamples), tables, 1))
    if np.ptp(values) <= 1e-12 * abs(total):
        return total, None, None
    pull = np.zeros(len(strata))
    for inside in members:  # without one subject the others of its stratum weigh n / (n - 1)
        n, own = len(inside), tables[inside]
        without = statistic(tables.sum(0) + (own.sum(0) - n * own) / (n - 1))
        pull[inside] = (n - 1) * (without.mean() - without)
    low, high = bca_ends(values, total, pull, len(strata) - len(members), confidence)
    return total, low, high


@lru_cache(maxsize=1)
def _weights(members: tuple[tuple[int, ...], ...], seed: int, resamples: int) -> Counts:
    """Weights (R, S) of the subjects; all arms of a table have the same subjects, so that they are drawn once."""
    rng = np.random.default_rng(seed)
    weights = np.ones((resamples, sum(map(len, members))))
    for inside in members:
        n = len(inside)
        weights[:, inside] = rng.multinomial(n - 1, np.full(n, 1 / n), resamples) * (n / (n - 1))
    return weights


def bca_ends(values: Counts, estimate: float, pull: Counts, freedom: int, confidence: float) -> tuple[float, float]:
    """Bias-corrected and accelerated percentiles, as `bootstrap_interval` says.

    Resamples that equal the estimate count half as below it, since metrics of counts are lumpy.

    Example: resamples 0, 1, .., 100 of the estimate 50 with a pull that is symmetric have no bias and no acceleration, so that with
    many degrees of freedom the ends are the plain percentiles 2.5 and 97.5.

    Args:
        values: the statistic of each resample (R,).
        estimate: the statistic of the sample.
        pull: influence of each unit on the statistic, from a jackknife (S,).
        freedom: degrees of freedom of the spread between units.
        confidence: probability in (0, 1).

    Returns:
        low, high.

    """
    tolerance = 1e-12 * max(1.0, abs(estimate))
    below = np.mean(values < estimate - tolerance) + np.mean(np.abs(values - estimate) <= tolerance) / 2
    bias = ndtri(np.clip(below, 0.5 / len(values), 1 - 0.5 / len(values)))
    size = np.sum(pull**2) ** 1.5
    acceleration = np.sum(pull**3) / (6 * size) if size > 0 else 0.0
    tails = bias + stdtrit(freedom, np.array([(1 - confidence) / 2, (1 + confidence) / 2]))
    low, high = np.quantile(values, ndtr(bias + tails / (1 - acceleration * tails)))
    return float(low), float(high)


def _strata(strata: Sequence[Hashable]) -> list[list[int]]:
    """The subjects of each stratum, none of which is alone unless all are one."""
    members: dict[Hashable, list[int]] = defaultdict(list)
    for index, stratum in enumerate(strata):
        members[stratum].append(index)
    found = [inside for inside in members.values() if len(inside) > 1]
    alone = [inside[0] for inside in members.values() if len(inside) == 1]
    if len(alone) == 1 and found:
        min(found, key=len).extend(alone)
    elif alone:
        found.append(alone)
    return found


def _mean_where(above: Counts, below: Counts) -> Counts:
    """Mean of above / below (..., C) over the classes where below is not 0."""
    there = below > 0
    ratios = np.divide(above, below, out=np.zeros_like(below), where=there)
    means: Counts = ratios.sum(-1) / there.sum(-1)
    return means
