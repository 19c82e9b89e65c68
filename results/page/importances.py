"""Which parameters of a search mattered: permutation importance of a random forest on trials that it has not seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Any

FEWEST, PARTS, TREES, REPEATS = 10, 5, 60, 5


@dataclass(frozen=True)
class Importances:
    """What a forest says of a search.

    Attributes:
        shares: name, mean and standard deviation over the parts, the most important first.
        r2: share of the variance of held-out values that the forest explains; below 0 it is worse than the mean.

    """

    shares: list[tuple[str, float, float]]
    r2: float


def importances(parameters: Sequence[Mapping[str, Any]], values: Sequence[float]) -> Importances:
    """Loss of R² on held-out trials when one parameter is shuffled (Breiman, Random forests, 2001, section 10).

    The forest is cross-validated, since on its own trials a forest finds importance in noise. Everything is seeded, so that the
    same trials in the same order give the same numbers.

    Args:
        parameters: of each trial; a parameter that it lacks was not used.
        values: the metric of each trial.

    Returns:
        the importances of the parameters that differ; of none there are no shares.

    """
    import numpy as np
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance
    from sklearn.metrics import r2_score
    from sklearn.model_selection import KFold

    columns = {
        name: _numbers([one.get(name) for one in parameters]) for name in sorted({n for one in parameters for n in one})
    }
    columns = {name: column for name, column in columns.items() if len(set(column)) > 1}
    if not columns:
        return Importances([], 0.0)
    x, y = np.array(list(columns.values())).T, np.array(values)
    losses, guessed = [], np.zeros(len(y))
    for train, test in KFold(PARTS, shuffle=True, random_state=0).split(x):
        forest = RandomForestRegressor(TREES, random_state=0, n_jobs=1).fit(x[train], y[train])
        guessed[test] = forest.predict(x[test])
        # Of squared errors, in units of the variance of all values: R² of a few held-out trials alone would be a gamble.
        found = permutation_importance(
            forest, x[test], y[test], scoring="neg_mean_squared_error", n_repeats=REPEATS, random_state=0, n_jobs=1
        )
        losses.append(found.importances_mean / max(float(y.var()), 1e-12))
    shares = [(name, fmean(row), pstdev(row)) for name, row in zip(columns, np.array(losses).T.tolist(), strict=True)]
    return Importances(sorted(shares, key=lambda share: (-share[1], share[0])), float(r2_score(y, guessed)))


def _numbers(values: Sequence[Any]) -> list[float]:
    """Numbers as they are, texts by their place in the alphabet, and what is not used below all of them."""
    known = [value for value in values if value is not None]
    if all(isinstance(value, (int, float)) for value in known):
        least = min(known, default=0)
        return [float(least) - 1.0 if value is None else float(value) for value in values]
    places = {text: place for place, text in enumerate(sorted({str(value) for value in known}))}
    return [-1.0 if value is None else float(places[str(value)]) for value in values]
