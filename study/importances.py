"""Which parameters of a search mattered, and which of its trials nobody beats in both objectives, by Optuna's word."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import optuna
from optuna.trial import FrozenTrial, TrialState

from study import history
from study.conduct import Study
from study.search import StudySearch
from study.space import Space

# Complete trials below which nothing is said.
FEWEST = 30


class Findings(NamedTuple):
    """What is to be said of a search.

    Attributes:
        importances: share of each parameter, the most important first; empty where there are too few trials.
        front: number, metric and cost of the trials that no other beats in both, the best metric first.

    """

    importances: dict[str, float]
    front: list[tuple[int, float, float]]


def findings(study: Study) -> Findings:
    """Rebuild Optuna's study from the rows and ask it.

    The importances are PED-ANOVA's (Watanabe, Bansal & Hutter, IJCAI 2023): how far the values of a parameter among the best tenth
    of the complete trials differ from those among all. Of a parameter that only some methods have, their trials alone are asked.
    """
    search, space = study.config["search"], Space(study.config)
    answered = history.answers(study.store, study.name, study.metric, search["cost"])
    past = history.past(study.store, study.name, space, study.shared, search["trials"], answered)
    found = StudySearch(space, study.shared, search, [], past, {}, lambda member, parameters: None).optuna
    complete = found.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    front = [] if search["cost"] is None else _front(found, [trial.index for trial in past])
    return Findings(importances(found) if len(complete) >= FEWEST else {}, front)


def importances(found: optuna.Study) -> dict[str, float]:
    """Shares of the parameters that differ among the complete trials, by the metric alone, the largest first."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shares = optuna.importance.get_param_importances(found, target=_metric)
    return dict(sorted(shares.items(), key=lambda share: (-share[1], share[0])))


def _metric(trial: FrozenTrial) -> float:
    return float(trial.values[0])


def _front(found: optuna.Study, numbers: list[int]) -> list[tuple[int, float, float]]:
    front = [(numbers[trial.number], trial.values[0], trial.values[1]) for trial in found.best_trials]
    return sorted(front, key=lambda one: (-one[1], one[0]))
