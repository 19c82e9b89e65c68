"""Search: proposals from Optuna, each trained on one or more blocks (fold and seed), with the history out of the store."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, NamedTuple

import optuna
from optuna.study import StudyDirection
from optuna.trial import TrialState
from ray.tune.search import Searcher

from study.config import Config
from study.errors import StudyError
from study.plan import Arm, Member, make_spec
from study.racing import worse
from study.records import Row
from study.samplers import SAMPLERS, Given, Samplers
from study.space import Parameters, Space
from study.spec import TrialSpec, resolved_options
from study.stopping import Stopping, part_of

COSTS = ("seconds", "peak_memory_bytes", "embedding_dim")
METRICS = ("val_accuracy", "val_balanced_accuracy")


class Answer(NamedTuple):
    """What a training that has ended says.

    Attributes:
        status: done, stopped or failed.
        curve: (epoch, metric) of each epoch.
        cost: of the second objective, where there is one.
        images: that the metric was measured on.
        first: whether it is of the first block, the one that ASHA looks at.

    """

    status: str
    curve: list[tuple[int, float]]
    cost: float | None = None
    images: int = 1
    first: bool = True


class Past(NamedTuple):
    """A proposal that is in the store: its number, what was proposed, and the answers of its first blocks."""

    index: int  # type: ignore[assignment]  # a tuple has a method of that name, which nobody calls
    parameters: Parameters
    answers: list[Answer]


@dataclass
class _Proposal:
    """One that has not ended: what Optuna knows of it, its drawn spec, the next block, those running, and answers by block."""

    index: int
    trial: optuna.Trial
    drawn: tuple[str, Parameters, Parameters]
    next: int = 0
    running: int = 0
    looked: int = 0
    answers: dict[int, Answer] = field(default_factory=dict)


class StudySearch(Searcher):
    """Optuna's proposals, and their trainings, that are not committed yet.

    The sampler of proposal i is made of (study seed, i) alone and the history comes from committed rows, so that 25 trials and then
    25 more propose what 50 would have (one worker). A training that is in the store already is answered from there, and one that
    is running is not begun again.

    Args:
        space: what to draw from.
        shared: fields of every TrialSpec.
        search: the configuration of the search.
        indices: numbers of the proposals to make, ascending.
        past: proposals that are in the store, ended or not.
        answered: answers in the store by trial key.
        proposed: called with every Member and its parameters when it is to be trained.
        dropped: called with the Member that will not be trained since racing dropped its arm.
        warm: proposals of other searches, to be told as history.

    """

    def __init__(
        self,
        space: Space,
        shared: dict[str, Any],
        search: Config,
        indices: Sequence[int],
        past: Sequence[Past],
        answered: Mapping[str, Answer],
        proposed: Callable[[Member, Parameters], None],
        dropped: Callable[[Member], None] = lambda member: None,
        warm: Sequence[Past] = (),
    ) -> None:
        super().__init__(metric="metric", mode="max")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.shared, self.search = space, shared, search
        self.ahead: Sequence[Any] = ()  # a proposal depends on those before it
        self.waiting, self.proposed, self.dropped = list(indices), proposed, dropped
        self.turn: Callable[[], str] | None = None  # says of which method the next proposal is to be
        self.blocks = [(fold, seed) for seed in range(search["seeds"]) for fold in range(search["folds"])]
        self._answered = dict(answered)
        self._samplers = Samplers(search["sampler"], space, search["seed"])
        self._open: dict[int, _Proposal] = {}
        self._complete: dict[int, list[float]] = {}  # values of the blocks of those that went through all
        self._flights: dict[str, list[tuple[_Proposal, int]]] = {}  # who waits for a running training, by its key
        self._running: dict[
            str, tuple[str, list[tuple[int, float]]]
        ] = {}  # key and curve, by the name of the Tune trial
        up, down = StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE
        self.optuna = optuna.create_study(
            directions=[up] if search["cost"] is None else [up, down], pruner=optuna.pruners.NopPruner()
        )
        for trial in warm:
            self.optuna.add_trial(self.frozen(trial))
        for trial in sorted(past, key=lambda trial: trial.index):
            if self._has_ended(trial.answers):
                self.optuna.add_trial(self.frozen(trial))
                self._keep(trial.index, trial.answers)
            else:
                proposal = self._ask(trial.index, Given(trial.parameters))
                proposal.answers = dict(enumerate(trial.answers))
                proposal.next = len(trial.answers)

    def __reduce__(self) -> tuple[Any, ...]:
        """Tune's snapshots do not hold it: resuming is a query of the store."""
        return object, ()

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""

    def suggest(self, trial_id: str) -> Any:
        """The config of the next training, None where one that runs must end first, or FINISHED."""
        while (proposal := self._next()) is not None:
            if self._drop(proposal):
                continue
            block, spec = proposal.next, self._spec(proposal, proposal.next)
            proposal.next += 1
            self.proposed(Member(proposal.index, spec), dict(proposal.trial.params))
            known = self._answered.get(spec.key)
            if known is not None:
                self._answer(proposal, block, known)
                continue
            proposal.running += 1
            self._flights.setdefault(spec.key, []).append((proposal, block))
            if len(self._flights[spec.key]) == 1:
                self._running[trial_id] = spec.key, []
                return {"trial": {"spec": spec.json(), "index": proposal.index}}
        return None if self._open else Searcher.FINISHED

    def on_trial_result(self, trial_id: str, result: Row) -> None:
        """Note the curve: what stopped early is compared with others at the epoch that it reached."""
        record = part_of(result, "record")
        if record and result.get("metric") is not None:
            # A worker that took the training over shows again what there was.
            curve = self._running[trial_id][1]
            curve[:] = [point for point in curve if point[0] < record["epoch"]] + [(record["epoch"], result["metric"])]

    def on_trial_complete(self, trial_id: str, result: Row | None = None, error: bool = False) -> None:
        """Tell Optuna how a proposal ended whose last training this was."""
        if trial_id not in self._running:
            return
        self.on_trial_result(trial_id, result or {})
        key, curve = self._running.pop(trial_id)
        row = part_of(result or {}, "row")
        if error or not row:
            answer = Answer("failed", curve)  # its worker was lost: no answer to whoever asks again
        else:
            cost = self.search["cost"]
            answer = Answer(row["status"], curve, row.get(cost) if cost else None, row.get("validation_images") or 1)
            self._answered[key] = answer
        for proposal, block in self._flights.pop(key):
            proposal.running -= 1
            self._answer(proposal, block, answer)

    @property
    def left(self) -> int:
        """Trainings that are left at most."""
        blocks = len(self.blocks)
        begun = sum(blocks - len(proposal.answers) for proposal in self._open.values())
        return begun + blocks * len(self.waiting)

    def frozen(self, past: Past) -> optuna.trial.FrozenTrial:
        """A proposal that has ended, as Optuna has it."""
        fixed = optuna.trial.FixedTrial(past.parameters)
        self.space.draw(fixed)
        state, values, steps = self._outcome(past.answers)
        return optuna.trial.create_trial(
            params=past.parameters,
            distributions=fixed.distributions,
            values=values or (None if state == TrialState.FAIL or not steps else [steps[max(steps)]]),
            intermediate_values=steps,
            state=state,
        )

    def _next(self) -> _Proposal | None:
        """Whose training is next: one begun that runs nowhere, a new one, else what can be run ahead of its turn."""
        for proposal in self._open.values():
            if not proposal.running:
                return proposal
        if self.waiting:
            index = self.waiting.pop(0)
            if self.turn is not None and len(self.space.methods) > 1:
                self.optuna.enqueue_trial({"method": self.turn()})
            return self._ask(index, self._samplers.of(index))
        ahead = [proposal for proposal in self._open.values() if proposal.next < len(self.blocks)]
        return min(ahead, key=lambda proposal: (proposal.running, proposal.index), default=None)

    def _ask(self, index: int, sampler: optuna.samplers.BaseSampler) -> _Proposal:
        self.optuna.sampler = sampler
        trial = self.optuna.ask()
        self._open[index] = _Proposal(index, trial, self.space.draw(trial))
        return self._open[index]

    def _spec(self, proposal: _Proposal, block: int) -> TrialSpec:
        return _spec(proposal.drawn, self.shared, f"-{proposal.index}", *self.blocks[block])

    def _drop(self, proposal: _Proposal) -> bool:
        """Leave a proposal that is worse than the best complete one, as far as their common blocks say.

        One whose next block was or is being trained for another proposal is not, since that costs nothing, and has a row of its own.
        """
        if self.search["cost"] is not None or not self._complete or proposal.looked == len(proposal.answers):
            return False
        spec = self._spec(proposal, proposal.next)
        if spec.key in self._answered or spec.key in self._flights:
            return False
        proposal.looked = len(proposal.answers)
        leader = self._complete[max(self._complete, key=lambda index: (fmean(self._complete[index]), -index))]
        images = min((answer.images for answer in proposal.answers.values()), default=1)
        differences = [answer.curve[-1][1] - leader[block] for block, answer in sorted(proposal.answers.items())]
        if not worse(differences, len(self.blocks), self.search["alpha"], 1 / images):
            return False
        self.proposed(Member(proposal.index, spec), dict(proposal.trial.params))
        self.dropped(Member(proposal.index, spec))
        self._answered[spec.key] = Answer("stopped", [])
        self._answer(proposal, proposal.next, self._answered[spec.key])
        return True

    def _answer(self, proposal: _Proposal, block: int, answer: Answer) -> None:
        """A block has ended; what else of an arm runs on after its end counts no more."""
        if self._open.get(proposal.index) is not proposal:
            return
        proposal.answers[block] = answer
        answers = [proposal.answers[place] for place in sorted(proposal.answers)]
        if self._has_ended(answers):
            del self._open[proposal.index]
            self._keep(proposal.index, answers)
            state, values, steps = self._outcome(answers)
            for step, value in steps.items():
                proposal.trial.report(value, step)
            self.optuna.tell(proposal.trial, values, state)

    def _has_ended(self, answers: Sequence[Answer]) -> bool:
        return len(answers) == len(self.blocks) or any(answer.status != "done" for answer in answers)

    def _keep(self, index: int, answers: Sequence[Answer]) -> None:
        if all(answer.status == "done" and answer.curve for answer in answers):
            self._complete[index] = [answer.curve[-1][1] for answer in answers]

    def _outcome(self, answers: Sequence[Answer]) -> tuple[TrialState, list[float] | None, dict[int, float]]:
        """How a proposal ended for Optuna: state, values where it is complete, and the mean so far by the epochs trained so far.

        A metric that is no number makes it failed; so does an early end where there are two objectives, since Optuna compares what
        ended early by one alone.
        """
        ended, steps, means = [answer for answer in answers if answer.curve], dict[int, float](), list[float]()
        for answer in ended:
            trained, before = len(means) * self.shared["epochs"], list(means)
            means.append(answer.curve[-1][1])
            for epoch, value in answer.curve if not before else answer.curve[-1:]:
                steps[trained + epoch] = fmean([*before, value])
        done = len(ended) == len(answers) and all(answer.status == "done" for answer in answers)
        values = [fmean(means)] if done else []
        if self.search["cost"] is not None:
            steps = {}
            values += [fmean(math.nan if answer.cost is None else answer.cost for answer in ended)] if done else []
        good = all(map(math.isfinite, [*means, *values]))
        if good and values:
            return TrialState.COMPLETE, values, steps
        if good and steps and all(answer.status != "failed" for answer in answers):
            return TrialState.PRUNED, None, steps
        return TrialState.FAIL, None, {step: value for step, value in steps.items() if math.isfinite(value)}


def respecified(
    space: Space, shared: dict[str, Any], parameters: Parameters, fold: int = 0, seed: int = 0
) -> TrialSpec:
    """The spec that a stored proposal stands for today."""
    return _spec(space.draw(optuna.trial.FixedTrial(parameters)), shared, "", fold, seed)


def _spec(
    drawn: tuple[str, Parameters, Parameters], shared: dict[str, Any], suffix: str, fold: int, seed: int
) -> TrialSpec:
    method, options, common = drawn
    arm = Arm(f"{method}{suffix}", method, resolved_options(method, options))
    return make_spec(shared | common, arm, fold=fold, seed=seed, search=shared["study"])


def check_search(config: Config) -> None:
    """Check the settings of a search.

    Raises:
        StudyError: one line for each that is out of range or has no use.

    """
    search, given = config["search"], config["given"]
    least = {"trials": 1, "seed": 0, "grace": 1, "reduction": 2, "brackets": 1, "collapse": 0, "folds": 1, "seeds": 1}
    problems = [
        f"Expected search.{name} to be at least {low}, found {search[name]}."
        for name, low in least.items()
        if search[name] < low
    ]
    among = {"metric": METRICS, "sampler": SAMPLERS, "cost": (None, *COSTS)}
    problems += [
        f"Expected search.{name} to be {' or '.join(map(str, known))}, found {search[name]}.".replace("None", "null")
        for name, known in among.items()
        if search[name] not in known
    ]
    if not 0 <= search["alpha"] < 0.5:
        problems.append(f"Expected search.alpha to be 0 or more and below 0.5, found {search['alpha']}.")
    if not all(isinstance(name, str) for name in search["warm_start"]):
        problems.append(f"Expected search.warm_start to be a list of studies, found {search['warm_start']}.")
    useless = []
    if search["folds"] * search["seeds"] < 3:
        useless.append(
            ("alpha", "an arm is dropped after two trainings at the earliest: set search.folds or search.seeds")
        )
    if search["cost"] is not None:
        reason = "with search.cost no trial is stopped for its metric alone"
        useless += [(name, reason) for name in ("alpha", "grace", "reduction", "brackets")]
        if search["sampler"] == "cmaes":
            problems.append(
                "search.sampler=cmaes has one objective: leave out search.cost, or take search.sampler=tpe."
            )
    rungs = len(Stopping(config["epochs"], max(1, search["grace"]), max(2, search["reduction"])).milestones)
    if search["brackets"] > max(1, rungs):
        problems.append(
            f"Expected search.brackets to be at most {max(1, rungs)}, the rungs, found {search['brackets']}."
        )
    if search["sampler"] in ("random", "grid"):
        useless.append(("warm_start", f"search.sampler={search['sampler']} learns from no trial"))
    problems += [
        f"{reason[0].upper()}{reason[1:]}: leave out search.{name}."
        for name, reason in useless
        if f"search.{name}" in given
    ]
    if problems:
        raise StudyError("\n".join(problems))
    space = Space(config)
    size = Samplers(search["sampler"], space, search["seed"]).size
    if size is not None and search["trials"] > size:
        raise StudyError(
            f"Expected search.trials to be at most {size}, the points of the grid, found {search['trials']}."
        )
