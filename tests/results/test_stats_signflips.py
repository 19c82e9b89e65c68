import itertools
import math
import random

import pytest
from scipy import stats as scipy_stats

from results.signflips import discordance, mcnemar, mcnemar_of_subjects, sign_flip, wilcoxon

OLD = [0.763, 0.599, 0.954, 0.628, 0.882, 0.936, 0.661, 0.583, 0.775, 1.000, 0.940, 0.619, 0.972, 0.957]
NEW = [0.768, 0.591, 0.971, 0.661, 0.888, 0.931, 0.668, 0.583, 0.838, 1.000, 0.962, 0.666, 0.981, 0.978]


@pytest.mark.parametrize("differences", [[1, 1, 2], [3, -1, 0, 2, 2], [-5, 4, 4, -4, 1, 9], [2, -2], [6, 4, -2], [7]])
def test_sign_flip_by_trying_all_signs(differences):
    sums = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    seen = abs(sum(differences))
    exact, same = (sum(test) / len(sums) for test in ([s >= seen for s in sums], [s == seen for s in sums]))
    assert sign_flip(differences) == pytest.approx((exact, exact - same / 2))


def test_sign_flip_of_the_worked_example():
    assert sign_flip([1, 1, 2]) == (0.25, 0.125)


def test_sign_flip_of_nothing():
    assert sign_flip([]) == sign_flip([0, 0]) == (1, 1)


def test_wilcoxon_of_hollander_and_wolfe():
    """Hollander and Wolfe 1973, table 3.1, also in R's wilcox.test: V = 40, one-sided p = 0.01953."""
    before = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
    after = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]
    assert wilcoxon(before, after) == (40, pytest.approx(2 * 0.01953125))


def test_wilcoxon_of_demsar():
    """Demsar (JMLR 7, 2006), table 2: R+ = 93 and R- = 12, with the ranks 1.5 and 1.5 of the two zeros split between them."""
    better, p = wilcoxon(NEW, OLD)
    worse, same = wilcoxon(OLD, NEW)
    assert (better + 1.5, worse + 1.5) == (93, 12)
    assert p == same < 0.05


def test_wilcoxon_without_ties_is_scipys():
    rng = random.Random(0)
    for n in (6, 15, 40):
        a, b = [[rng.gauss(0, 1) for _ in range(n)] for _ in range(2)]
        theirs = scipy_stats.wilcoxon(a, b, alternative="greater", method="exact")
        statistic, p = wilcoxon(a, b)
        assert statistic == theirs.statistic
        assert p == pytest.approx(
            min(1, 2 * min(theirs.pvalue, scipy_stats.wilcoxon(b, a, alternative="greater").pvalue))
        )


def test_wilcoxon_sees_ties_through_rounding():
    """0.9 - 0.8 and 0.8 - 0.7 differ in the 17th digit; both have rank 1.5."""
    assert wilcoxon([0.9, 0.8, 0.1], [0.8, 0.7, 0.4]) == (3, 1)


def test_wilcoxon_of_equal_arms():
    assert wilcoxon([0.5, 0.6], [0.5, 0.6]) == (0, 1)
    assert wilcoxon([], []) == (0, 1)
    with pytest.raises(ValueError, match="found 1 and 2"):
        wilcoxon([1.0], [1.0, 2.0])


def test_five_pairs_cannot_be_significant():
    assert wilcoxon([1, 2, 3, 4, 5], [0] * 5)[1] == 2 / 2**5
    assert wilcoxon([1, 2, 3, 4, 5, 6], [0] * 6)[1] == 2 / 2**6


def test_mcnemar_of_fagerland():
    """Fagerland, Lydersen and Laake 2013, table 1: airways of 21 children, discordant 1 and 7: exact 0.0703, mid-p 0.0391."""
    ours, theirs = [1] + 20 * [0], [0] + 7 * [1] + 13 * [0]
    assert mcnemar(ours, theirs) == mcnemar(theirs, ours) == (18 / 256, 10 / 256)


def test_mcnemar_is_the_binomial_test():
    for ours, theirs in ((0, 0), (0, 1), (3, 3), (12, 2), (500, 430)):
        found = mcnemar([1] * ours + [0] * theirs, [0] * ours + [1] * theirs)[0]
        assert found == pytest.approx(scipy_stats.binomtest(ours, ours + theirs).pvalue if ours + theirs else 1)


def test_mcnemar_counts_an_image_once_whatever_the_number_of_seeds():
    """Three seeds that agree say what one says; of the balances 2, 1 and -1 of three seeds each all eight signs are tried."""
    assert mcnemar([3, 3, 0], [0, 0, 3]) == mcnemar([1, 1, 0], [0, 0, 1])
    assert (
        mcnemar([3, 2, 1], [1, 1, 2])[0]
        == sum(abs(a + b + c) >= 2 for a in (2, -2) for b in (1, -1) for c in (1, -1)) / 8
    )


def test_discordance_of_the_worked_example():
    assert discordance([0, 0, 1], [0, 1, 1], [1, 0, 0], ["s", "s", "t"]) == ([1, 1], [1, 0])


THYROIDS = [2, 1, 0, 0, 1, 0, 2, 1, -1] + 12 * [0]


def test_mcnemar_of_subjects_of_obuchowski():
    """Obuchowski 1998, table I (data thyroids of CRAN's clust.bin.pair): SPECT against PET, 21 patients, glands 7 against 1.

    Durkalski et al. 2003 report McNemar's chi2 = 4.5 and Obuchowski's 2.86. The first six patients are printed in that package's
    tests; what is said of the others is the only way, but for the order, to reach both numbers.
    """
    ours, theirs = [max(0, d) for d in THYROIDS], [max(0, -d) for d in THYROIDS]
    assert (sum(ours) - sum(theirs)) ** 2 / (sum(ours) + sum(theirs)) == 4.5
    chi2, p, exact = mcnemar_of_subjects(ours, theirs)
    assert chi2 == pytest.approx(2.86, abs=0.005)
    assert p == pytest.approx(scipy_stats.chi2.sf(chi2, 1))
    assert exact == sign_flip([2, 1, 1, 2, 1, -1])[0] == 10 / 64


def test_subjects_with_one_image_each_are_mcnemars():
    """Then b - c is 1 or -1 for each discordant subject: the exact p is the binomial one, chi2 is McNemar's times (K - 1) / K."""
    chi2, _, exact = mcnemar_of_subjects([1] * 9 + [0] * 11, [0] * 9 + [1] * 3 + [0] * 8)
    assert chi2 == pytest.approx(19 / 20 * 36 / 12)
    assert exact == mcnemar([1] * 9 + [0] * 3, [0] * 9 + [1] * 3)[0]


def test_repeating_every_image_changes_nothing_for_subjects():
    ours, theirs = [3, 0, 2, 1], [0, 1, 0, 0]
    assert mcnemar_of_subjects(ours, theirs) == mcnemar_of_subjects([5 * n for n in ours], [5 * n for n in theirs])
    once, often = ([1] * n * sum(ours) + [-1] * n * sum(theirs) for n in (1, 5))  # as if all images were independent
    assert sign_flip(often)[0] < sign_flip(once)[0] / 10


def test_subjects_in_balance():
    assert mcnemar_of_subjects([1, 2], [1, 2]) == (0, 1, 1)
    assert not math.isnan(mcnemar_of_subjects([1], [0])[1])
