"""What the arms do image by image and run by run: McNemar's tests, effect sizes, and how often one arm is better."""

from results.errors import StoreError
from results.page.found import Found, Row
from results.page.markup import details, missing, paragraph, table
from results.people import mcnemar_table
from results.render import Table
from results.wording import p_value

EFFECTS = (
    "g is Hedges' effect size: the mean difference to {baseline} in standard deviations of the paired differences, its interval corrected "
    "like the test. P(better {unit}) is how often an arm beats {baseline} in a pair, P(better run) how often a run of it beats a run of "
    "{baseline} on the same fold, with a 95 % bootstrap interval over seeds. {caveat}"
)
CAVEAT = (
    "Wilcoxon's p and the interval of P(better fold) take folds as independent, which share training images: they are too small and too "
    "narrow, and the corrected p of the table is the one to go by."
)


def by_image(found: Found) -> str:
    """McNemar's tests against the baseline, and effect sizes."""
    if found.searches:
        return missing("A search reads no test image, so that there is nothing to compare image by image.")
    try:
        tested = mcnemar_table(found.store, found.name)
        drawn = table(tested, f"McNemar's tests against {found.baseline}") + paragraph(tested.caption)
    except StoreError as error:
        drawn = missing(str(error))
    return drawn + _effects(found)


def _effects(found: Found) -> str:
    rows = [row for row in found.compared if row["replicates"] > 1 and row["p"] is not None]
    if not rows:
        return ""
    unit = rows[0]["replicated"]
    header = ("arm", f"{unit}s", "runs", "g", "95 % CI of g", f"P(better {unit})", f"95 % CI (Wilson, {unit}s)", "P(better run)",
              "95 % CI (bootstrap, runs)", f"p (Wilcoxon, {unit}s)")  # fmt: skip
    lines = [
        (row["arm"], row["replicates"], row["pairs"], _short(row["effect_size"]), _ends(row, "effect"), _short(row["improvement"]),
         _ends(row, "improvement"), _short(row["run_improvement"]), _ends(row, "run_improvement"), p_value(row["p_wilcoxon"]))
        for row in rows
    ]  # fmt: skip
    note = EFFECTS.format(baseline=found.baseline, unit=unit, caveat=CAVEAT if unit == "fold" else "").strip()
    title = f"Effect sizes against {found.baseline}"
    return details(title, table(Table(header, lines), title) + paragraph(note))


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _ends(row: Row, name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return "" if low is None or high is None else f"[{low:.2f}, {high:.2f}]"
