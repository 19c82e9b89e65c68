"""The proposals of a search with what came of them: one training each, or the mean of several."""

import json
from statistics import fmean
from typing import Any, NamedTuple

from results.replication import StudyRows

Row = dict[str, Any]


class Proposal(NamedTuple):
    """A proposal that has a value.

    Attributes:
        number: of the proposal, 0 is the first.
        trial: its row of the table `trials`. Of several trainings it is the first one's with the mean of the metric over those done
            and the sums of epochs and seconds; it is done where all are, else stopped.
        parameters: what was proposed.
        keys: of its trainings.

    """

    number: int
    trial: Row
    parameters: Row
    keys: tuple[str, ...]


def trainings(rows: StudyRows) -> int:
    """How many trainings a proposal of this search has: search.folds times search.seeds."""
    search = json.loads(rows.study["config"] or "{}").get("search", {})
    return int(search.get("folds", 1) * search.get("seeds", 1))


def front(rows: StudyRows) -> set[int]:
    """Numbers of the proposals that are done and that no other one beats in metric and cost; of a search without a cost, none."""
    spent, sign = rows.cost, 1 if rows.less_is_better else -1
    if spent is None:
        return set()
    points = {
        one.number: (sign * one.trial[rows.metric], one.trial[spent])
        for one in proposals(rows)
        if one.trial["status"] == "done" and one.trial[spent] is not None
    }
    return {
        number
        for number, point in points.items()
        if not any(other[0] <= point[0] and other[1] <= point[1] and other != point for other in points.values())
    }


def proposals(rows: StudyRows) -> list[Proposal]:
    """Those that did not fail and have a value, in their order."""
    whole, found = trainings(rows), dict[int, list[Row]]()
    for member in rows.members:
        found.setdefault(member["index"], []).append(member)
    return [one for number in sorted(found) if (one := _proposal(rows, number, found[number], whole)) is not None]


def _proposal(rows: StudyRows, number: int, members: list[Row], whole: int) -> Proposal | None:
    metric, parameters = rows.metric, json.loads(members[0]["parameters"] or "{}")
    members = sorted(members, key=lambda member: (member["seed"], member["fold"]))
    trials = [rows.trials[member["trial_key"]] for member in members if member["trial_key"] in rows.trials]
    valued = [trial for trial in trials if trial[metric] is not None]
    if not valued or any(trial["status"] == "failed" for trial in trials):
        return None
    if whole == 1:
        return Proposal(number, valued[0], parameters, (valued[0]["trial_key"],))
    done = [trial for trial in valued if trial["status"] == "done"] or valued
    one = valued[0] | {
        metric: fmean(trial[metric] for trial in done),
        "status": "done" if len(done) == whole else "stopped",
        "epochs": sum(trial["epochs"] for trial in valued),
        "seconds": sum(trial["seconds"] or 0.0 for trial in valued),
    }
    if (spent := rows.cost) is not None:
        one[spent] = fmean(trial[spent] for trial in done)
    return Proposal(number, one, parameters, tuple(trial["trial_key"] for trial in valued))
