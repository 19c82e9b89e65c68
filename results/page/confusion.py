"""Confusion matrices: per arm the share of each class that was taken for each, and how many images that is."""

from collections import defaultdict

from results.page.found import Found
from results.page.markup import count, details, esc, missing, panels, scroll

OPEN, SHADES = 4, 10
Cells = dict[tuple[int, int], int]


def confusion(found: Found) -> str:
    """A matrix an arm, its trials added up: the baseline and the best are unfolded, and of few arms all."""
    rows = found.read_by_trial("confusion", ["split", "truth", "predicted", "truth_class", "predicted_class", "count"])
    splits = {row["split"] for some in rows.values() for row in some}
    split = "test" if "test" in splits and not found.searches else "validation"
    matrices: dict[str, Cells] = {}
    trials: dict[str, int] = {}
    names: dict[int, str] = {}
    for arm, keys in found.arms.items():
        cells: Cells = defaultdict(int)
        for key in keys:
            mine = [row for row in rows.get(key, ()) if row["split"] == split]
            trials[arm] = trials.get(arm, 0) + bool(mine)
            for row in mine:
                cells[row["truth"], row["predicted"]] += row["count"]
                names[row["truth"]], names[row["predicted"]] = row["truth_class"], row["predicted_class"]
        if cells:
            matrices[arm] = cells
    if not matrices:
        return missing("No trial has a confusion matrix yet.")
    best = max(matrices, key=lambda arm: _right(matrices[arm]))
    few = len(matrices) <= OPEN
    unfolded = [arm for arm in matrices if few or arm in (best, found.baseline)]
    drawn = {arm: _matrix(arm, cells, names, split, trials[arm]) for arm, cells in matrices.items()}
    note = (
        f'<p class="note">Rows are the true classes of {split} images, columns what they were taken for: the share of the row, and the '
        "images, added up over folds and seeds.</p>\n"
    )
    folded = [
        details(f"{arm}: {_right(cells):.1%} right", drawn[arm])
        for arm, cells in matrices.items()
        if arm not in unfolded
    ]
    return (
        note
        + panels([f'<div class="panel"><h3>{esc(arm)}</h3>{drawn[arm]}</div>\n' for arm in unfolded], wide=True)
        + "".join(folded)
    )


def _right(cells: Cells) -> float:
    return sum(n for (truth, predicted), n in cells.items() if truth == predicted) / max(1, sum(cells.values()))


def _matrix(arm: str, cells: Cells, names: dict[int, str], split: str, trials: int) -> str:
    classes = sorted(names)
    head = "".join(f'<th scope="col">{esc(names[place])}</th>' for place in classes)
    lines = []
    for truth in classes:
        total = sum(cells.get((truth, place), 0) for place in classes)
        shares = [
            (cells.get((truth, place), 0), cells.get((truth, place), 0) / total if total else 0.0) for place in classes
        ]
        row = "".join(
            f'<td class="h{round(share * SHADES)}">{share:.0%}<br><small>{n}</small></td>' for n, share in shares
        )
        lines.append(f'<tr><th scope="row">{esc(names[truth])}</th>{row}</tr>\n')
    caption = f"{esc(arm)}, {split} images of {count(trials, 'trial')}"
    body = (
        f'<table class="matrix"><caption>{caption}</caption>\n<thead><tr><th scope="col">true \\ taken for</th>{head}</tr></thead>\n'
        f"<tbody>\n{''.join(lines)}</tbody></table>"
    )
    return scroll(f"Confusion matrix of {arm}", body)
