"""The conditional space of a search: out of the configuration, what is drawn for which method."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import optuna

from mdml import MethodError
from mdml.methods import make_method, method_class, method_names
from mdml.train import Recipe
from study.config import Config
from study.errors import StudyError
from study.spec import resolved_options

Parameters = dict[str, Any]

# Fields of a TrialSpec that `common` may search.
_COMMON = ("learning_rate", "batch_size", "schedule", "sampler", "optimizer")
_RECIPE = ("epochs", *_COMMON)


class Space:
    """The conditional space of a search: what an arm owns is drawn for that arm alone.

    Args:
        config: a checked configuration; `method.OPTION` given on the command line is fixed.

    Raises:
        StudyError: one line for everything in the space that no method owns.

    """

    def __init__(self, config: Config) -> None:
        self.config, search, given = config, config["search"], config["given"]
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

    def distributions(self, method: str) -> dict[str, optuna.distributions.BaseDistribution]:
        """What is drawn for a method, its own name apart, in the order of the draws."""
        noting = _Noting(method)
        self.draw(noting)  # type: ignore[arg-type]
        return noting.found

    def points(self) -> list[Parameters]:
        """The parameters of every point of the space, methods in their order.

        Raises:
            StudyError: one line for each range that holds more than numbers that can be counted.

        """
        found, problems = [], []
        for method in self.methods:
            axes = {}
            for name, distribution in self.distributions(method).items():
                values = _values(distribution)
                if values is None:
                    problems.append(
                        f"A grid needs choices, whole numbers or ranges with a step: give search.space.{_place(name)} a list or a step "
                        f"without log, or fix it by {_override(name)}=VALUE."
                    )
                axes[name] = values or []
            named = {} if len(self.methods) == 1 else {"method": method}
            found += [named | dict(zip(axes, point, strict=True)) for point in product(*axes.values())]
        if problems:
            raise StudyError("\n".join(dict.fromkeys(problems)))
        return found

    def _check(self, common: Config) -> None:
        problems = [
            f"search.methods names {name!r}, which is no method." for name in self.methods if name not in method_names()
        ]
        if "search.methods" in self.config["given"] and self.methods != list(self.config["search"]["methods"]):
            problems.append(f"method= and method. overrides search {self.methods[0]} alone: leave out search.methods.")
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
        if "sampler" in self.config["given"]:
            problems += [
                f"The method {method} needs sampler={needed}: leave out sampler={self.config['sampler']}."
                for method in self.methods
                if method in method_names()
                and (needed := method_class(method).sampler) not in (None, self.config["sampler"])
            ]
        if not problems:
            # Its lowest and highest corners must be configurations: a space that cannot be trained shows before anything runs.
            for method in self.methods:
                for end in (0, -1):
                    try:
                        options = self.fixed | {name: _end(value, end) for name, value in self.open[method].items()}
                        shared = {name: _end(value, end) for name, value in self.common.items()}
                        recipe = Recipe(**{name: self.config[name] for name in _RECIPE} | shared)
                        make_method(method, resolved_options(method, options)).check_epochs(recipe.epochs)
                    except MethodError as error:
                        problems.append(str(error))
                try:
                    self.distributions(method)
                except ValueError as error:
                    problems.append(f"A range of search.space for {method} cannot be: {error}")
            problems = list(dict.fromkeys(problems))
        if problems:
            raise StudyError("\n".join(problems))


class _Noting:
    """Stands for a trial, and notes what is asked of it."""

    def __init__(self, method: str) -> None:
        self.method, self.found = method, dict[str, optuna.distributions.BaseDistribution]()

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        self.found[name] = optuna.distributions.FloatDistribution(low, high, log=log, step=step)
        return low

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        self.found[name] = optuna.distributions.IntDistribution(low, high, log=log, step=step)
        return low

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        if name == "method":
            return self.method
        self.found[name] = optuna.distributions.CategoricalDistribution(choices)
        return choices[0]


def _values(distribution: optuna.distributions.BaseDistribution) -> list[Any] | None:
    """All values of it, or None where it has too many to be counted."""
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        return list(distribution.choices)
    if isinstance(distribution, optuna.distributions.IntDistribution):
        return list(range(distribution.low, distribution.high + 1, distribution.step))
    if isinstance(distribution, optuna.distributions.FloatDistribution) and distribution.step is not None:
        count = round((distribution.high - distribution.low) / distribution.step)
        return [distribution.low + place * distribution.step for place in range(count + 1)]
    return None


def _place(name: str) -> str:
    """Where in search.space a parameter stands: learning_rate, triplet.thresholds.0."""
    return name if "." in name else f"common.{name}"


def _override(name: str) -> str:
    """The override that fixes a parameter."""
    return f"method.{name.split('.')[1]}" if "." in name else name


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
    raise TypeError(f"{name} is neither a choice nor a range: {value!r}")


def _end(value: Any, end: int) -> Any:
    """The lowest (0) or highest (-1) value of an entry of the space."""
    if isinstance(value, dict) and {"low", "high"} <= set(value):
        return value["high" if end else "low"]
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return [_end(item, end) for item in value]
    if isinstance(value, list) and value:
        return value[end]
    raise StudyError(f"Expected a list of choices or a range of low and high in search.space, found {value!r}.")
