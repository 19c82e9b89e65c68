"""The triplet family by loops over explicit triplets, in Python floats: the reference of the tests."""

import math
from typing import NamedTuple


class Judged(NamedTuple):
    """The batch-hard triplet (i, p, n) of one anchor and its two hinges."""

    i: int
    p: int
    n: int
    ap: float
    an: float
    pn: float
    h1: float
    h2: float

    @property
    def incomplete(self):
        return self.h1 <= 1e-12 and self.ap > self.pn


def unit(row):
    length = max(math.sqrt(sum(x * x for x in row)), 1e-5)
    return [x / length for x in row]


def judged(rows, labels, threshold, normalize=False):
    """One Judged for each anchor that has a positive and a negative; ties go to the lowest index."""
    rows = [unit(row) if normalize else row for row in rows]
    everyone = range(len(rows))
    out = []
    for i in everyone:
        positives = [j for j in everyone if j != i and labels[j] == labels[i]]
        negatives = [j for j in everyone if labels[j] != labels[i]]
        if not positives or not negatives:
            continue
        p = max(positives, key=lambda j: math.dist(rows[i], rows[j]))
        n = min(negatives, key=lambda j: math.dist(rows[i], rows[j]))
        ap, an, pn = math.dist(rows[i], rows[p]), math.dist(rows[i], rows[n]), math.dist(rows[p], rows[n])
        out.append(Judged(i, p, n, ap, an, pn, max(0.0, ap - an + threshold), max(0.0, ap - pn + threshold)))
    return out


def loss(rows, labels, threshold, form, normalize=False):
    terms = [t.h1 if form == "conventional" else (t.h1 + t.h2) / 2 for t in judged(rows, labels, threshold, normalize)]
    return math.fsum(terms) / len(terms) if terms else 0.0
