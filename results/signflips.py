"""Exact tests of paired differences by flipping their signs: Wilcoxon's, McNemar's, and McNemar's for whole subjects.

Where two arms are exchangeable, every difference could as well have had the other sign (Fisher, The design of experiments,
1935, section 21). The three tests are one: Wilcoxon's flips ranks, McNemar's flips images, and the clustered one flips the
balance of each subject. The distribution over all 2^n signs is found by adding one difference after the other, so
that zeros and ties need no approximation, and no number of pairs is too large for it in practice.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc


def sign_flip(differences: Sequence[int]) -> tuple[float, float]:
    """Two-sided p values of the sum of whole-numbered differences, were each sign a fair coin.

    Example: 1, 1, 2 sum to 4, which 2 of the 8 choices of signs reach in size: exact p = 1/4. Half of the probability of the
    sum that was seen makes the mid-p value 1/8.

    Args:
        differences: one whole number per independent unit; zeros say nothing and are allowed. Time and memory grow with
            the sum of their sizes.

    Returns:
        exact p, which never rejects too often; mid-p, which rejects at its level about as often as it says. Both are
        1 where all differences are 0.

    """
    unit = math.gcd(*differences)
    if not unit:
        return 1.0, 1.0
    sizes = [abs(int(difference)) // unit for difference in differences if difference]
    chance = np.zeros(sum(sizes) + 1)  # chance[s]: probability that the sizes with a plus sum to s
    chance[0] = 1
    for size in sizes:
        chance /= 2
        chance[size:] += chance[:-size].copy()
    distance = np.abs(2 * np.arange(len(chance)) - sum(sizes))
    seen = abs(int(sum(differences))) // unit
    exact = min(1.0, float(chance[distance >= seen].sum()))
    return exact, exact - float(chance[distance == seen].sum()) / 2


def wilcoxon(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """Wilcoxon's signed rank test of paired values: its statistic and exact two-sided p.

    Pratt's treatment of zeros (Journal of the American Statistical Association 54, 1959): they are ranked with the others
    and then left out. Ties get their mean rank, and p is exact given the ties, which scipy's is not. Differences that
    agree to 12 digits of the largest value are tied, so that 0.9 - 0.8 equals 0.8 - 0.7.

    It takes the pairs as independent, as data sets are (Demsar, JMLR 7, 2006, section 3.1.3). Folds of one
    cross-validation share training images: there it rejects too often, like an uncorrected t test, and stands beside
    the corrected one only because it is robust (test_coverage.py measures both). Seeds on one fold are to be averaged
    first (`stats.replicates`). Below 6 pairs p cannot be less than 0.05.

    Example: Hollander and Wolfe's depression scale (Nonparametric statistical methods, 1973, section 3.1), 9 pairs:
    statistic 40, p = 20/512 = 0.0390625.

    Args:
        a: one number per pair.
        b: the numbers of the other arm, in the same order.

    Returns:
        sum of the ranks of the pairs in which a is larger, and p, which is 1 where all pairs are equal.

    """
    ours, theirs = np.asarray(a, float), np.asarray(b, float)
    if ours.shape != theirs.shape:
        raise ValueError(f"Pairs have two values each, found {len(ours)} and {len(theirs)}.")
    scale = max(np.abs(ours).max(initial=0.0), np.abs(theirs).max(initial=0.0)) or 1.0
    differences = np.round((ours - theirs) / scale, 12)
    _, place, ties = np.unique(np.abs(differences), return_inverse=True, return_counts=True)
    doubled = (2 * np.cumsum(ties) - ties + 1)[place]  # twice the mean rank is a whole number
    signed = np.sign(differences).astype(int) * doubled
    return float(signed[signed > 0].sum()) / 2, sign_flip(signed.tolist())[0]


def discordance(
    labels: Sequence[int], ours: Sequence[int], theirs: Sequence[int], units: Sequence[Hashable]
) -> tuple[list[int], list[int]]:
    """Per unit, such as an image or a subject, the predictions that only our arm has right, and those that only the other has right.

    Example: labels 0, 0, 1 of the subjects s, s, t, ours 0, 1, 1 and theirs 1, 0, 0: only ours is right once for s and once
    for t, only theirs once for s: [1, 1] and [1, 0].

    Args:
        labels: class of each image; over several folds and seeds, of each prediction.
        ours: classes predicted by our arm.
        theirs: classes predicted by the other arm for the same images, by the same fold and seed.
        units: the image, or the person in it.

    Returns:
        two lists with one number per unit, in the order in which they first appear.

    """
    counts: dict[Hashable, list[int]] = defaultdict(lambda: [0, 0])
    for label, our, their, unit in zip(labels, ours, theirs, units, strict=True):
        only = counts[unit]
        only[0] += our == label != their
        only[1] += their == label != our
    return [only[0] for only in counts.values()], [only[1] for only in counts.values()]


def mcnemar(only_ours: Sequence[int], only_theirs: Sequence[int]) -> tuple[float, float]:
    """McNemar's test of two classifiers on the same images: exact p, and mid-p.

    Fagerland, Lydersen and Laake (BMC Medical Research Methodology 13:91, 2013) recommend the mid-p value over the exact
    and the chi-square ones for any number of images, so that no switch between them is needed. The unit is the image: where it
    was predicted by several seeds, the balance of their verdicts has its sign flipped as one; with one seed p is the binomial
    one. It assumes that images are independent and that both classifiers are given: images of one subject are not
    independent and make p too small; use `mcnemar_of_subjects` for them.

    Example: their 21 children, of whom 1 and 7 are discordant: exact p = 18/256 = 0.0703, mid-p = 10/256 = 0.0391.

    Args:
        only_ours: of each image, how often only our classifier is right, as from `discordance`.
        only_theirs: of each image, how often only the other is right.

    Returns:
        exact p, mid-p; 1 and 1 where no image tells the two apart.

    """
    return sign_flip([our - their for our, their in zip(only_ours, only_theirs, strict=True)])


def mcnemar_of_subjects(only_ours: Sequence[int], only_theirs: Sequence[int]) -> tuple[float, float, float]:
    """McNemar's test where each subject has several images, which are alike.

    With b_k and c_k the discordant images of subject k = 1..K, Obuchowski's statistic (Statistics in Medicine 17, 1998) is
    chi2 = (K - 1)/K * (sum_k (b_k - c_k))^2 / sum_k (b_k - c_k)^2 on one degree of freedom, in the form of Yang, Sun and
    Hardin (Biometrical Journal 52, 2010). It compares the accuracies over all images and assumes only that subjects are
    independent and not few. The exact p beside it flips whole subjects and holds for any number of them, if under the null
    hypothesis the arms are exchangeable for each subject. Subjects with different models (folds) and sums over seeds are
    allowed. Both speak of new subjects for these trained models, not of models trained on other subjects.

    Example: Obuchowski's PET and SPECT readings of the glands of 21 patients (her table I): the b_k - c_k that are not 0
    are 2, 1, 1, 2, 1 and -1, so that chi2 = 20/21 * 36/12 = 2.857 (Durkalski et al., Statistics in Medicine 22, 2003, report
    2.86; without clusters 4.5).

    Args:
        only_ours: of each subject, images that only our arm has right, as from `discordance`.
        only_theirs: of each subject, images that only the other has right.

    Returns:
        chi2, its p, exact p by sign flips; 0, 1, 1 where every balance is 0.

    """
    balance: npt.NDArray[np.int64] = np.asarray(only_ours, np.int64) - np.asarray(only_theirs, np.int64)
    squares = int((balance**2).sum())
    if not squares:
        return 0.0, 1.0, 1.0
    chi2 = (len(balance) - 1) / len(balance) * float(balance.sum()) ** 2 / squares
    return chi2, float(chdtrc(1, chi2)), sign_flip(balance.tolist())[0]
