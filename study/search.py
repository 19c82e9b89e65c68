"""Search: proposals from Optuna, and history out of the store."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import optuna
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from mdml.train import derived_seed
from study.config import Config
from study.errors import StudyError
from study.plan import Arm, Member, make_spec
from study.space import Parameters, Space
from study.spec import TrialSpec, resolved_options


class Past(NamedTuple):
    """A trial of this search that is committed: its number, what was proposed, how it ended, and its curve."""

    index: int  # type: ignore[assignment]  # a tuple has a method of that name, which nobody calls
    parameters: Parameters
    status: str
    curve: list[tuple[int, float]]


class StudySearch(OptunaSearch):
    """Optuna's proposals for the trials that are not committed yet.

    The sampler of trial i is seeded by (study seed, i) alone and the history comes from committed rows, so that 25 trials and then
    25 more propose what 50 would have (one worker). A proposal that is in the store already is answered from there.

    Args:
        space: what to draw from.
        shared: fields of every TrialSpec.
        seed: of the search.
        indices: numbers of the trials to propose, ascending.
        past: committed trials of this search.
        answered: gives status and curve of a key that is committed, or None.
        proposed: called with every Member and its parameters when it is proposed.

    """

    def __init__(
        self,
        space: Space,
        shared: dict[str, Any],
        seed: int,
        indices: Sequence[int],
        past: Sequence[Past],
        answered: Callable[[str], tuple[str, list[tuple[int, float]]] | None],
        proposed: Callable[[Member, Parameters], None],
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.shared, self.seed = space, shared, seed
        self.waiting, self.answered, self.proposed = list(indices), answered, proposed
        super().__init__(space=space.draw, metric="metric", mode="max", sampler=_sampler(seed, 0))
        for trial in sorted(past):
            self._ot_study.add_trial(self._remembered(trial))

    def __reduce__(self) -> tuple[Any, ...]:
        """Tune's snapshots do not hold it: resuming is a query of the store."""
        return object, ()

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save."""

    def suggest(self, trial_id: str) -> Any:
        """The config of the next trial, or FINISHED."""
        while self.waiting:
            index = self.waiting.pop(0)
            self._ot_study.sampler = _sampler(self.seed, index)
            ot_trial = self._ot_study.ask()
            spec = _spec(self.space.draw(ot_trial), self.shared, f"-{index}")
            self.proposed(Member(index, spec), dict(ot_trial.params))
            known = self.answered(spec.key)
            if known is None:
                self._ot_trials[trial_id] = ot_trial
                return {"trial": {"spec": spec.json(), "index": index}}
            status, curve = known
            for epoch, value in curve:
                ot_trial.report(value, epoch)
            self._tell(ot_trial, status, curve[-1][1] if curve else None)
        return Searcher.FINISHED

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Note the curve: what stopped early is compared with others at the epoch that it reached."""
        if result.get("metric") is not None:
            self._ot_trials[trial_id].report(result["metric"], result["training_iteration"])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna how a trial ended."""
        ot_trial = self._ot_trials.pop(trial_id, None)
        if ot_trial is not None:
            committed = "failed" if error or result is None else result.get("committed", "stopped")
            value = (result or {}).get("metric")
            self._tell(ot_trial, committed, value)

    def _tell(self, ot_trial: optuna.Trial, status: str, value: float | None) -> None:
        state = _state(status, value)
        self._ot_study.tell(ot_trial, value if state == optuna.trial.TrialState.COMPLETE else None, state)

    def _remembered(self, past: Past) -> optuna.trial.FrozenTrial:
        fixed = optuna.trial.FixedTrial(past.parameters)
        self.space.draw(fixed)
        value = past.curve[-1][1] if past.curve else None
        state = _state(past.status, value)
        return optuna.trial.create_trial(
            params=past.parameters,
            distributions=fixed.distributions,
            value=None if state == optuna.trial.TrialState.FAIL else value,
            intermediate_values=dict(past.curve),
            state=state,
        )


def _state(status: str, value: float | None) -> optuna.trial.TrialState:
    if status == "failed" or value is None:
        return optuna.trial.TrialState.FAIL
    return optuna.trial.TrialState.COMPLETE if status == "done" else optuna.trial.TrialState.PRUNED


def _sampler(seed: int, index: int) -> optuna.samplers.BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            seed=derived_seed("search", seed, index) % 2**32, multivariate=True, group=True, constant_liar=True
        )


def respecified(space: Space, shared: dict[str, Any], parameters: Parameters) -> TrialSpec:
    """The spec that a stored proposal stands for today."""
    return _spec(space.draw(optuna.trial.FixedTrial(parameters)), shared, "")


def _spec(drawn: tuple[str, Parameters, Parameters], shared: dict[str, Any], suffix: str) -> TrialSpec:
    method, options, common = drawn
    arm = Arm(f"{method}{suffix}", method, resolved_options(method, options))
    return make_spec(shared | common, arm, fold=0, seed=0, search=shared["study"])


def check_search(config: Config) -> None:
    """Check the numbers of a search.

    Raises:
        StudyError: one line for each that is out of range.

    """
    search = config["search"]
    least = {"trials": 1, "seed": 0, "grace": 1, "reduction": 2, "brackets": 1, "collapse": 0}
    problems = [
        f"Expected search.{name} to be at least {low}, found {search[name]}."
        for name, low in least.items()
        if search[name] < low
    ]
    if search["metric"] not in ("val_accuracy", "val_balanced_accuracy"):
        problems.append(
            f"Expected search.metric to be val_accuracy or val_balanced_accuracy, found {search['metric']}."
        )
    if problems:
        raise StudyError("\n".join(problems))


def spec_of(config: dict[str, Any]) -> TrialSpec:
    """The spec in the config of a Tune trial."""
    return TrialSpec.parse(config["trial"]["spec"])
