"""Search: a space out of the configuration, proposals from Optuna, early stopping by ASHA, and history out of the store."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import optuna
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from mdml import MethodError
from mdml.methods import method_class, method_names
from mdml.train import derived_seed
from study.config import Config
from study.errors import StudyError
from study.plan import Arm, Member, make_spec
from study.spec import TrialSpec, resolved_options

Parameters = dict[str, Any]

# Fields of a TrialSpec that `common` may search.
_COMMON = ("learning_rate", "batch_size", "schedule", "sampler")


class Space:
    """The conditional space of a search: what an arm owns is drawn for that arm alone.

    Args:
        config: a checked configuration; `method.OPTION` given on the command line is fixed.

    Raises:
        StudyError: one line for everything in the space that no method owns.

    """

    def __init__(self, config: Config) -> None:
        search, given = config["search"], config["given"]
        self.common: dict[str, Any] = {
            name: value for name, value in search["space"]["common"].items() if name not in given
        }
        narrowed = "method" in given or any(name.startswith("method.") for name in given)
        self.methods: list[str] = [config["method"]["name"]] if narrowed else list(search["methods"])
        self.fixed = {name: config["method"][name] for name in _given_options(given)}
        self.open = {
            method: {name: value for name, value in search["space"].get(method, {}).items() if name not in self.fixed}
            for method in self.methods
        }
        self._check(search["space"]["common"])

    def draw(self, trial: optuna.trial.BaseTrial) -> tuple[str, Parameters, Parameters]:
        """Draw (method, its options, common fields); every draw is noted in the trial."""
        common = {name: _draw(trial, name, value) for name, value in self.common.items()}
        method = self.methods[0] if len(self.methods) == 1 else trial.suggest_categorical("method", self.methods)
        options = {name: _draw(trial, f"{method}.{name}", value) for name, value in self.open[method].items()}
        return method, self.fixed | options, common

    def _check(self, common: Config) -> None:
        problems = [
            f"search.methods names {name!r}, which is no method." for name in self.methods if name not in method_names()
        ]
        problems += [
            f"search.space.common can hold {', '.join(_COMMON)}, not {name!r}."
            for name in common
            if name not in _COMMON
        ]
        for method in set(self.methods) & set(method_names()):
            fields = method_class(method).__dataclass_fields__
            problems += [
                f"search.space.{method} names {name!r}, which the method does not have."
                for name in self.open[method]
                if name not in fields
            ]
        if not problems:
            # The corners of the space must be configurations; a point that is not shows before anything runs.
            for method in self.methods:
                try:
                    resolved_options(
                        method, self.fixed | {name: _first(value) for name, value in self.open[method].items()}
                    )
                except MethodError as error:
                    problems.append(str(error))
        if problems:
            raise StudyError("\n".join(problems))


def _given_options(given: Sequence[str]) -> list[str]:
    return [name.removeprefix("method.") for name in given if name.startswith("method.")]


def _draw(trial: optuna.trial.BaseTrial, name: str, value: Any) -> Any:
    if isinstance(value, dict):
        if isinstance(value["low"], int) and isinstance(value["high"], int):
            return trial.suggest_int(
                name, value["low"], value["high"], log=value.get("log", False), step=value.get("step", 1)
            )
        return trial.suggest_float(
            name, value["low"], value["high"], log=value.get("log", False), step=value.get("step")
        )
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        return [_draw(trial, f"{name}.{i}", item) for i, item in enumerate(value)]
    if isinstance(value, list):
        return trial.suggest_categorical(name, value)
    raise StudyError(
        f"Expected search.space {name} to be a list of choices or a range of low and high, found {value!r}."
    )


def _first(value: Any) -> Any:
    if isinstance(value, dict):
        return value["low"]
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return [_first(item) for item in value]
    if isinstance(value, list) and value:
        return value[0]
    raise StudyError(f"Expected a list of choices or a range of low and high in search.space, found {value!r}.")


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
        answered: gives the Past of a key that is committed, or None.
        proposed: called with every Member and its parameters when it is proposed.

    """

    def __init__(
        self,
        space: Space,
        shared: dict[str, Any],
        seed: int,
        indices: Sequence[int],
        past: Sequence[Past],
        answered: Callable[[str], tuple[str, float | None] | None],
        proposed: Callable[[Member, Parameters, bool], None],
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.shared, self.seed = space, shared, seed
        self.waiting, self.answered, self.proposed = list(indices), answered, proposed
        super().__init__(space=space.draw, metric="metric", mode="max", sampler=_sampler(seed, 0))
        for trial in sorted(past):
            self._ot_study.add_trial(
                self._remembered(trial.parameters, trial.status, trial.curve[-1][1] if trial.curve else None)
            )

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
            method, options, common = self.space.draw(ot_trial)
            arm = Arm(f"{method}-{index}", method, resolved_options(method, options))
            spec = make_spec(self.shared | common, arm, fold=0, seed=0, search=self.shared["study"])
            known = self.answered(spec.key)
            self.proposed(Member(index, spec), dict(ot_trial.params), known is not None)
            if known is None:
                self._ot_trials[trial_id] = ot_trial
                return {"trial": {"spec": spec.json(), "index": index}}
            status, value = known
            failed = status == "failed" or value is None
            self._ot_study.tell(ot_trial, None if failed else value, _state("failed" if failed else status))
        return Searcher.FINISHED

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Curves are ASHA's business."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna how a trial ended."""
        value = (result or {}).get("metric")
        failed = error or value is None or (result or {}).get("committed") == "failed"
        self._ot_study.tell(
            self._ot_trials[trial_id], None if failed else value, _state("failed" if failed else "done")
        )

    def _remembered(self, parameters: Parameters, status: str, value: float | None) -> optuna.trial.FrozenTrial:
        fixed = optuna.trial.FixedTrial(parameters)
        self.space.draw(fixed)
        failed = status == "failed" or value is None
        return optuna.trial.create_trial(
            params=parameters,
            distributions=fixed.distributions,
            value=None if failed else value,
            state=_state("failed" if failed else status),
        )


def _state(status: str) -> optuna.trial.TrialState:
    return optuna.trial.TrialState.FAIL if status == "failed" else optuna.trial.TrialState.COMPLETE


def _sampler(seed: int, index: int) -> optuna.samplers.BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            seed=derived_seed("search", seed, index) % 2**32, multivariate=True, group=True, constant_liar=True
        )


class StudyASHA(ASHAScheduler):
    """ASHA over epochs, with one bracket, whose rungs are filled again from the curves of committed trials.

    Source: Li et al., A System for Massively Parallel Hyperparameter Tuning (MLSys 2020); Tune's stopping variant.
    """

    def __init__(self, epochs: int, grace: int, reduction: int, past: Sequence[Past]) -> None:
        super().__init__(
            time_attr="training_iteration",
            metric="metric",
            mode="max",
            max_t=epochs,
            grace_period=min(grace, epochs),
            reduction_factor=reduction,
        )
        for trial in sorted(past):
            for epoch, value in trial.curve:
                self._brackets[0].on_result(SimpleNamespace(trial_id=f"past-{trial.index}"), epoch, value)


def past_trials(
    members: list[dict[str, Any]], statuses: dict[str, str], curves: dict[str, list[tuple[int, float]]]
) -> list[Past]:
    """The committed trials of a search, from its members, the statuses of the store and the curves of its metric."""
    return [
        Past(
            member["index"],
            json.loads(member["parameters"]),
            statuses[member["trial_key"]],
            curves.get(member["trial_key"], []),
        )
        for member in members
        if member["trial_key"] in statuses
    ]


def check_search(config: Config) -> None:
    """Check the numbers of a search.

    Raises:
        StudyError: one line for each that is out of range.

    """
    search = config["search"]
    least = {"trials": 1, "seed": 0, "grace": 1, "reduction": 2}
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
