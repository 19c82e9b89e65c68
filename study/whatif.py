"""What if: a stored study under other schedulers, packings, GPUs, spot rates and prices.

    python study/run.py --simulate study=NAME gpus=[8,64] scheduler=asha spot=0.05/h packing=4 price=1.0 goal=0.9

Settings in brackets are swept. What a setting is when it is left out, and what is assumed, is printed with the answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from results import Store
from study.config import DEFAULT_STORE, nearest
from study.errors import StudyError
from study.prices import price_of
from study.replay import Recording, recorded
from study.simulate import Machines
from study.sweep import BAND, Schedule, Setup, Summary, best_so_far, cheapest, replay, setups
from study.units import duration, rate, spoken

_MOST = 1000
_POINTS = 8


class Setting(NamedTuple):
    """A setting: how its text is read, the least it may be, and whether it may be listed."""

    read: Callable[[Any, str], Any]
    least: float | None = None
    swept: bool = False


def _whole(value: str, name: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise StudyError(f"Expected {name} to be an integer, found {value!r}.") from None


def _number(value: str, name: str) -> float:
    try:
        found = float(value)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise StudyError(f"Expected {name} to be a number, found {value!r}.")
    return found


def _text(value: str, name: str) -> str:
    return value


def _choice(*known: str) -> Callable[[str, str], str]:
    def read(value: str, name: str) -> str:
        if value not in known:
            raise StudyError(f"Expected {name} to be {' or '.join(known)}, found {value!r}.{nearest(value, known)}")
        return value

    return read


SETTINGS: dict[str, Setting] = {
    "study": Setting(_text),
    "storage.root": Setting(_text),
    "gpus": Setting(_whole, 1, swept=True),
    "packing": Setting(_whole, 1, swept=True),
    "slowdown": Setting(_number, 1),
    "speed": Setting(_number, 1e-9),
    "scheduler": Setting(_choice("none", "asha"), swept=True),
    "grace": Setting(_whole, 1, swept=True),
    "reduction": Setting(_whole, 2, swept=True),
    "brackets": Setting(_whole, 1, swept=True),
    "spot": Setting(rate, 0, swept=True),
    "startup": Setting(duration, 0),
    "idle": Setting(duration, 0),
    "first": Setting(duration, 0),
    "gap": Setting(duration, 0),
    "checkpoint": Setting(_whole, 0, swept=True),
    "price": Setting(_number, 0, swept=True),
    "instance": Setting(_text),
    "region": Setting(_text),
    "goal": Setting(_number),
    "trials": Setting(_whole, 1),
    "draws": Setting(_whole, 0),
    "seed": Setting(_whole, 0),
    "extend": Setting(_choice("bootstrap", "refuse")),
}
# What a field of Machines is called here.
_FIELD = {"spot": "reclaims"}


def parse(arguments: Sequence[str]) -> dict[str, list[Any]]:
    """Values of every setting that is given.

    Raises:
        StudyError: one line for everything that is wrong.

    """
    found: dict[str, list[Any]] = {}
    problems = []
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if not equals:
            problems.append(f"Expected settings of the form KEY=VALUE, found {argument!r}.")
        elif name not in SETTINGS:
            problems.append(f"There is no setting {name} of --simulate.{nearest(name, sorted(SETTINGS))}")
        else:
            try:
                found[name] = _values(name, text)
            except StudyError as error:
                problems.append(str(error))
    if "study" not in found and not problems:
        problems.append("Expected study=NAME, the study to replay; python results/query.py shows what is in the store.")
    if "region" in found and "instance" not in found:
        problems.append("A region has prices of instances: add instance=TYPE or leave out region.")
    if "price" in found and "instance" in found:
        problems.append("Expected a price or an instance whose price is looked up, found both.")
    if problems:
        raise StudyError("\n".join(problems))
    return found


def _values(name: str, text: str) -> list[Any]:
    setting = SETTINGS[name]
    listed = text.startswith("[") and text.endswith("]")
    if listed and not setting.swept:
        swept = ", ".join(name for name, setting in SETTINGS.items() if setting.swept)
        raise StudyError(f"Expected one value of {name}, found {text}: only {swept} can be listed.")
    values = [setting.read(part.strip(), name) for part in (text[1:-1].split(",") if listed else [text])]
    for value in values:
        if setting.least is not None and value < setting.least:
            raise StudyError(f"Expected {name} to be at least {setting.least:g}, found {value:g}.")
    return list(dict.fromkeys(values))


def simulate_command(arguments: Sequence[str], console: Console) -> int:
    """Answer on the console; the exit status.

    Raises:
        StudyError: what is wrong with the settings or the study.

    """
    given = parse(arguments)
    one = {name: values[0] for name, values in given.items()}
    recording = recorded(Store(one.get("storage.root", DEFAULT_STORE)), one["study"])
    configurations = _setups(given, one, recording)
    if len(configurations) > _MOST:
        raise StudyError(f"Expected at most {_MOST} configurations, found {len(configurations)}: list fewer values.")
    count, draws = one.get("trials", len(recording.trials)), one.get("draws", 20)
    if not draws and count > len(recording.trials):
        raise StudyError(
            f"Expected draws of 1 or more where trials={count} are more than the {len(recording.trials)} recorded, found draws=0."
        )
    goal, extend = one.get("goal", math.inf), one.get("extend") != "refuse"
    found = [replay(recording, setup, count, draws, one.get("seed", 0), goal, extend) for setup in configurations]
    show(recording, found, count, one.get("goal"), console)
    for line in assumptions(recording, found, one):
        console.print(f"- {line}", highlight=False, markup=False)
    return 0


def _setups(given: dict[str, list[Any]], one: dict[str, Any], recording: Recording) -> list[Setup]:
    config = recording.config
    search = config["kind"] == "search"
    if not search and "asha" in given.get("scheduler", []):
        raise StudyError(
            "The arms of a table are always complete: expected scheduler=none for a study that is no search."
        )
    stops = {name: config.get("search", {}).get(name) for name in ("grace", "reduction", "brackets")}
    schedule = Schedule(
        "asha" if search else "none", stops["grace"] or 1, stops["reduction"] or 3, stops["brackets"] or 1
    )
    first = recording.first if math.isfinite(recording.first) else 0.0
    machines = replace(Machines(gpus=recording.slots, first=first, gap=recording.gap), **{
        _FIELD.get(name, name): one[name] for name in ("gpus", "packing", "slowdown", "speed", "spot", "startup", "idle", "first",
                                                       "gap", "checkpoint") if name in one
    })  # fmt: skip
    schedule = replace(schedule, **{name: one[name] for name in ("grace", "reduction", "brackets") if name in one})
    if "scheduler" in one:
        schedule = replace(schedule, name=one["scheduler"])
    lists = {
        _FIELD.get(name, name): given[name] for name, setting in SETTINGS.items() if setting.swept and name in given
    }
    made = setups(machines, schedule, one.get("price"), lists)
    if "instance" not in one:
        return made
    price, cpus = price_of(one["instance"], one.get("region")), config["cluster"]["cpus_per_trial"]
    return [replace(setup, price=price.per_unit(setup.machines.reclaims > 0, cpus)) for setup in made]


def show(recording: Recording, found: Sequence[Summary], count: int, goal: float | None, console: Console) -> None:
    """Print a row for every configuration, the best-so-far curve of the one to take, and which that is."""
    low, _, high = (f"p{100 * share:.0f}" for share in BAND)
    drawn = bool(found[0].draws)
    over = f"p50 ({low} – {high}) of {len(found[0].draws)} bootstrap draws" if drawn else "the trials as recorded"
    table = Table(title=f"{recording.study}: {count} trials replayed; {over}", title_justify="left")
    priced = any(one.setup.price is not None for one in found)
    swept = _swept([one.setup for one in found])
    columns = [*swept, "wall-clock", "GPU-hours held", "used", *(["USD"] if priced else []), "done", recording.metric]
    columns += ["reach the goal", "after", "GPU-hours", *(["USD"] if priced else [])] if goal is not None else []
    for column in columns:
        table.add_column(column, justify="right")
    for one in found:
        row = [text for _, text in _label(one.setup, swept)]
        row += [_range(one.band(outcome.wall for outcome in one.outcomes), spoken)]
        row += [_short(one.band(outcome.billed / 3600 for outcome in one.outcomes)[1])]
        row += [_short(one.band(outcome.used / 3600 for outcome in one.outcomes)[1])]
        row += [_range(one.band(one.money(outcome.billed) for outcome in one.outcomes), _short)] if priced else []
        row += [_short(one.band(float(outcome.ended.get("done", 0)) for outcome in one.outcomes)[1])]
        row += [
            _range(one.band(outcome.best[-1][1] if outcome.best else -math.inf for outcome in one.outcomes), _value)
        ]
        if goal is not None:
            row += [f"{one.reaching:.0%}", _range(one.time_to_goal, spoken)]
            row += [_short(one.held_to_goal[1] / 3600)]
            row += [_short(one.money(one.held_to_goal[1]))] if priced else []
        table.add_row(*row)
    console.print(table)
    choice = cheapest(found) if goal is not None else None
    if goal is not None:
        console.print(_verdict(choice, swept, goal), highlight=False)
    _curve(choice or found[0], swept, recording.metric, console)


def _verdict(choice: Summary | None, swept: Sequence[str], goal: float) -> str:
    if choice is None:
        return f"No configuration reaches {goal:g} in half of the draws."
    what = " ".join(f"{name}={text}" for name, text in _label(choice.setup, swept)) or "this one"
    cost = choice.money(choice.held_to_goal[1])
    price = "" if math.isnan(cost) else f" and {cost:.2f} USD"
    return (
        f"The cheapest that reaches {goal:g}: {what}, after {spoken(choice.time_to_goal[1])}, with "
        f"{choice.held_to_goal[1] / 3600:.3g} GPU-hours{price} (in the middle of its draws), in {choice.reaching:.0%} of them."
    )


def _curve(one: Summary, swept: Sequence[str], metric: str, console: Console) -> None:
    """Best value so far, over time."""
    end = max(outcome.wall for outcome in one.outcomes)
    times = [end * (i + 1) / _POINTS for i in range(_POINTS)]
    values = best_so_far(one.outcomes, times)
    label = " ".join(f"{name}={text}" for name, text in _label(one.setup, swept))
    table = Table(
        title=f"Best {metric} of a completed trial so far" + (f", {label}" if label else ""), title_justify="left"
    )
    for column in ("after", *(f"p{100 * share:.0f}" for share in BAND)):
        table.add_column(column, justify="right")
    for time, column in zip(times, values.T, strict=True):
        column[column != column] = -math.inf
        table.add_row(spoken(time), *(_value(value) for value in one.band(column.tolist())))
    console.print(table)


def assumptions(recording: Recording, found: Sequence[Summary], one: dict[str, Any]) -> list[str]:
    """What the answer rests on, a sentence each."""
    machines, devices = found[0].setup.machines, " and ".join(recording.devices) or "unknown devices"
    shared = (
        f"epochs take {machines.slowdown:g} times as long when {'the most' if 'packing' in one else ''} trials share a GPU"
        if machines.slowdown is not None
        else "k trials on a GPU take k times as long each, so that sharing it gains nothing (slowdown= says otherwise)"
    )
    lines = [
        f"Seconds and curves are those recorded on {devices}, {recording.slots} trials at a time"
        + (f", made {machines.speed:g} times faster." if machines.speed != 1 else "."),
        f"A worker takes {spoken(machines.first)} to start and {spoken(machines.gap)} between trials"
        + ("." if {"first", "gap"} & set(one) else ", as recorded."),
        f"Proposals are replayed in their recorded order: another number of GPUs would have made the search propose others; {shared}.",
        f"A machine is paid for from when it is asked for; it starts in {spoken(machines.startup)}, and is let go after "
        f"{spoken(machines.idle)} without a trial.",
    ]
    if any(summary.setup.machines.reclaims for summary in found):
        kept = f"after the last epoch divisible by {machines.checkpoint}" if machines.checkpoint else "anew"
        lines.append(f"A reclaimed machine is replaced in {spoken(machines.startup)}; its trials go on {kept}.")
    if most := max(summary.extended for summary in found):
        lines.append(
            f"Up to {most} trials that were stopped early go on here: each as a like completed trial did from its value on (drawn from the "
            "five nearest), which flatters them."
        )
    if recording.waiting:
        lines.append(f"{recording.waiting} planned trials have not ended and are left out.")
    if "trials" in one and one["trials"] > len(recording.trials):
        lines.append(
            f"The {one['trials']} trials are drawn from {len(recording.trials)} recorded ones, with replacement and in any order."
        )
    if found[0].draws:
        lines.append("The best of many noisy values is partly luck: fresh seeds of the winner reach less.")
    return lines


def _swept(made: Sequence[Setup]) -> list[str]:
    """Names of what differs between configurations."""
    labels = [dict(_label(setup)) for setup in made]
    return [name for name in labels[0] if len({label[name] for label in labels}) > 1]


def _label(setup: Setup, only: Sequence[str] | None = None) -> list[tuple[str, str]]:
    machines, schedule = setup.machines, setup.schedule
    found = {
        "gpus": str(machines.gpus),
        "scheduler": schedule.name,
        "grace": str(schedule.grace),
        "reduction": str(schedule.reduction),
        "brackets": str(schedule.brackets),
        "packing": str(machines.packing),
        "spot": f"{machines.reclaims:g}/h",
        "checkpoint": str(machines.checkpoint),
        "price": "-" if setup.price is None else f"{setup.price:g}",
    }
    return [(name, text) for name, text in found.items() if only is None or name in only]


def _range(band: Sequence[float], say: Callable[[float], str]) -> str:
    low, middle, high = band
    return say(middle) if say(low) == say(high) else f"{say(middle)} ({say(low)} – {say(high)})"


def _short(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) and value < 1000 else f"{value:,.0f}" if math.isfinite(value) else "-"


def _value(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "-"
