"""The tables of a store by name: of a study its comparison or its ranking, and those that look across studies."""

from typing import Any

from results.across import ACROSS
from results.comparison import comparison_table
from results.errors import StoreError
from results.laid_out import seen
from results.people import mcnemar_table
from results.proposals import front, proposals, trainings
from results.render import Table, number, render
from results.replication import Arm, StudyRows, instead, known_names, study_rows
from results.store import Store
from results.wording import digits, listed

__all__ = ["ACROSS", "Arm", "StudyRows", "Table", "comparison_table", "find_study", "named_table", "ranking_table", "render",
           "study_rows", "study_table"]  # fmt: skip

BEST = 20


def named_table(store: Store, name: str, study: str = "") -> Table:
    """The table that `--table NAME` means: one of ACROSS, else that of the latest study of the ablation, or of the study, of this name.

    Args:
        store: the results.
        name: of a table across studies, an ablation or a study; or mcnemar.
        study: which study of the ablation; for a table across studies the ablation, or the search, that it is about; for mcnemar
            the study, or the ablation whose latest study is meant.

    Raises:
        StoreError: there is none.

    """
    if name == "mcnemar":
        if not study:
            raise StoreError("The table mcnemar is about one study: say which, as in --table mcnemar study=STUDY.")
        return mcnemar_table(store, find_study(store, study))
    if name in ACROSS:
        return ACROSS[name](store, study)
    return study_table(store, find_study(store, name, study))


def find_study(store: Store, name: str, study: str = "") -> str:
    """The study meant by `name`: `study` if given, else the latest of the ablation `name`, else the study `name`.

    Raises:
        StoreError: there is none.

    """
    known = store.read("studies", ["study", "ablation", "created_at"]).to_pylist()
    if study:
        if not any(row["study"] == study and name in (row["study"], row["ablation"]) for row in known):
            of_name = [row["study"] for row in known if row["ablation"] == name]
            raise StoreError(f"There is no study {study} of {name}{instead(study, of_name or known_names(store))}.")
        return study
    made = [row for row in known if row["ablation"] == name] or [row for row in known if row["study"] == name]
    if not made:
        raise StoreError(f"There is no ablation or study {name} in {store.root}{instead(name, known_names(store))}.")
    latest: str = max(made, key=lambda row: (str(row["created_at"]), row["study"]))["study"]
    return latest


def study_table(store: Store, study: str) -> Table:
    """The comparison table of an ablation, or the ranking of a search."""
    rows = study_rows(store, study)
    return ranking_table(store, study, rows) if rows.study["kind"] == "search" else comparison_table(store, study, rows)


def ranking_table(store: Store, study: str, read: StudyRows | None = None) -> Table:
    """The best trials of a search, with what was proposed for them; `read` is what `study_rows` gave, where it is there already."""
    rows = read or study_rows(store, study)
    metric, found, several = rows.metric, proposals(rows), trainings(rows) > 1
    sign = 1 if metric.endswith("loss") else -1
    # The mean of fewer folds and seeds is of other faces: what was left early stands below.
    found.sort(key=lambda one: (several and one.trial["status"] != "done", sign * one.trial[metric]))
    best = [(one.trial, one.parameters) for one in found[:BEST]]
    columns: tuple[str, ...] = ("rank", "trial_key", metric, "status", "epochs", "seconds", "parameters")
    values: list[tuple[Any, ...]] = [
        (rank, trial["trial_key"], trial[metric], trial["status"], trial["epochs"], trial["seconds"], parameters)
        for rank, (trial, parameters) in enumerate(best, 1)
    ]
    names = list(dict.fromkeys(name for _, parameters in best for name in parameters))
    header: tuple[str, ...] = ("rank", "trial", metric.replace("_", " "), "status", "epochs", "seconds", *names)
    shown: list[tuple[str, ...]] = [
        (str(rank), key[:12], digits(value, metric), status, str(epochs), f"{seconds:.1f}" if seconds is not None else "",
         *(_parameter(parameters.get(name)) for name in names))
        for rank, key, value, status, epochs, seconds, parameters in values
    ]  # fmt: skip
    if (spent := rows.cost) is not None:
        optimal = front(rows)
        more = [(one.trial[spent], one.number in optimal) for one in found[:BEST]]
        columns, header = (*columns, "cost", "front"), (*header, f"cost: {spent}", "front")
        values = [(*row, *two) for row, two in zip(values, more, strict=True)]
        shown = [(*row, f"{two[0]:g}", "yes" if two[1] else "") for row, two in zip(shown, more, strict=True)]
    states = [one.trial["status"] for one in found] if several else [t["status"] for t in rows.trials.values()]
    proposed = {member["index"] for member in rows.members}
    failed = {member["index"] for member in rows.members if _failed(rows, member["trial_key"])}
    mean = f", the mean of {trainings(rows)} trainings" if several else ""
    caption = (
        f"Search {study} on {listed(seen(rows, None, 'dataset'))}: the best {len(best)} of {len(proposed)} "
        f"trials by {metric}{mean} ({states.count('done')} done, {states.count('stopped')} stopped early, "
        f"{len(failed) if several else states.count('failed')} failed)."
    )
    keys = {(place, column): one.keys for place, one in enumerate(found[:BEST]) for column in range(1, len(header))}
    return Table(columns, values, caption, (header, shown), keys=keys)


def _failed(rows: StudyRows, key: str) -> bool:
    return key in rows.trials and rows.trials[key]["status"] == "failed"


def _parameter(value: Any) -> str:
    return "" if value is None else number(value) if isinstance(value, float) else str(value)
