"""What a study says when it is over: its table, its figures, what failed, and what to do next."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.compute as pc
from rich.console import Console

from results.distances import distances_table, distributions, wasserstein_table
from results.embeddings import distance_plot, plane_plot, write_pictures
from results.plots import comparison_plot, learning_curves
from results.replication import less_is_better
from results.report import write_report
from results.tables import render, study_table
from study.conduct import Study
from study.config import DEFAULT_STORE, Config


def report(study: Study, console: Console) -> int:
    """Print the table, write the figures, and say what to do next; the exit status of the study."""
    store = study.store
    store.compact()
    table = study_table(store, study.name)
    console.print(render(table, "table"), markup=False, highlight=False)
    if study.searches:
        _findings(study, console)
    with _folder(study) as folder:
        (folder / "table.md").write_text(render(table, "md") + "\n", encoding="utf-8")
        if curve := _curve_column(study):
            learning_curves(store, study.name, folder / "curves.png", curve)
        if best_value(study) is not None and not study.searches:
            comparison_plot(store, study.name, folder / "comparison.png")
        _embedding_figures(study, folder)
        page = _page(study, folder)
    where = f"{store.root}/reports/{study.name}"
    rows = store.read("trials", ["trial_key", "status", "arm", "error", study.metric], study=study.name)
    failed = rows.filter(pc.equal(rows["status"], "failed")).to_pylist()
    console.print(f"table   {where}/table.md\nplots   {where}", highlight=False, soft_wrap=True)
    console.print(f"report  {page or f'{where}/report.html'}", markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"next    {_python()} results/query.py --table {study.name} --format latex{place(study.config)}",
        highlight=False,
        soft_wrap=True,
    )
    if study.left:
        resume = f"python study/run.py --resume {study.name}{place(study.config)}"
        line = f"left    {study.left}. Go on with a larger budget: {resume} budget.NAME=VALUE"
        console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)
    elif not study.new and not study.failed:
        console.print("Nothing was trained: every trial of this study is in the store.")
    for row in failed:
        console.print(
            f"failed  {row['arm']} ({row['trial_key']}): {row['error']}", style="red", markup=False, soft_wrap=True
        )
    best = best_value(study)
    text = "none" if best is None else f"{best:.4f}"
    console.print(
        f"study {study.name}: {study.size} trials, {len(study.new)} new, best {text}", highlight=False, soft_wrap=True
    )
    return 1 if failed or study.failed or study.left else 0


def _findings(study: Study, console: Console) -> None:
    """Of a search, which parameters mattered, and where there is a cost, which trials no other beats in both."""
    from study.importances import FEWEST, findings

    found, cost = findings(study), study.config["search"]["cost"]
    if found.front:
        console.print(f"front   no other trial has a better {study.metric} and less {cost} than one of these:")
        for number, value, spent in found.front:
            console.print(f"        trial {number}: {study.metric} {value:.4f}, {cost} {spent:g}", highlight=False)
    if found.importances:
        listed = ", ".join(f"{name} {share:.2f}" for name, share in found.importances.items())
    else:
        listed = f"said from {FEWEST} complete trials on"
    console.print(f"importances (PED-ANOVA)  {listed}", markup=False, highlight=False)


@contextmanager
def _folder(study: Study) -> Iterator[Path]:
    """The study's folder in the store: of one in S3 a temporary one, whose files are put there in the end."""
    root = str(study.store.root)
    if "://" not in root:
        folder = Path(root) / "reports" / study.name
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    from results.remote import Remote

    with TemporaryDirectory(prefix="report-") as scratch:
        yield Path(scratch)
        far = Remote(f"{root}/reports/{study.name}")
        for path in sorted(Path(scratch).rglob("*")):
            if path.is_file():
                far.upload(path, path.relative_to(scratch).as_posix())


def _page(study: Study, folder: Path) -> str | None:
    """Write the page that shows all of it; why there is none: a study is worth more than its page."""
    try:
        write_report(study.store, study.name, folder / "report.html")
    except Exception as error:
        return f"not written: {error}"
    return None


def _embedding_figures(study: Study, folder: Path) -> None:
    """Figures of what there is: distances and planes of an ablation's arms, and the pictures that methods made."""
    store = study.store
    if not study.searches:
        splits = set(store.read("distances", ["split"], study=study.name)["split"].to_pylist())
        if "test" in splits:
            distance_plot(store, study.name, folder / "distances.png")
            found = distributions(store, study.name)
            text = "\n".join(render(make(found), "md") for make in (distances_table, wasserstein_table))
            (folder / "distances.md").write_text(text, encoding="utf-8")
        if store.read("embedding", ["trial_key"], study=study.name).num_rows:
            plane_plot(store, study.name, folder / "tsne.png")
    write_pictures(store, study.name, folder / "pictures")


def place(config: Config) -> str:
    """The override that names the store, where it is not the default one: the end of a command to type."""
    root = config["storage"]["root"]
    return "" if Path(root) == DEFAULT_STORE else f" storage.root={root}"


def _python() -> str:
    """The running interpreter, as one would type it here."""
    path = Path(sys.executable)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _curve_column(study: Study) -> str | None:
    """The first of the curves' columns that holds something: a study without validation subjects has no val_accuracy."""
    columns = ("val_accuracy", "test_accuracy", "train_accuracy")
    rows = study.store.read("epochs", columns, study=study.name)
    return next((name for name in columns if rows[name].null_count < len(rows)), None)


def best_value(study: Study) -> float | None:
    """Of a search the best trial's metric, else the best arm's mean."""
    members = study.store.read("members", ["trial_key", "arm"], study=study.name).to_pylist()
    rows = study.store.read("trials", ["trial_key", "status", study.metric], study=study.name).to_pylist()
    values = {
        row["trial_key"]: row[study.metric] for row in rows if row["status"] == "done" and row[study.metric] is not None
    }
    arms: dict[str, list[float]] = defaultdict(list)
    for member in members:
        if member["trial_key"] in values:
            arms[member["arm"]].append(values[member["trial_key"]])
    best = min if less_is_better(study.metric) else max
    # An arm of a search that was dropped, or goes on, was not on all the faces that the complete ones were.
    whole = study.config["search"]["folds"] * study.config["search"]["seeds"] if study.searches else 1
    return best((sum(found) / len(found) for found in arms.values() if len(found) >= whole), default=None)
