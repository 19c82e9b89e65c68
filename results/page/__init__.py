"""The page of a study: one HTML document that needs nothing but itself."""

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from results.page import account, accuracy, confusion, curves, densities, individuals, plane, ranked, search, slices
from results.page.found import Found
from results.page.markup import count, esc, paragraph
from results.render import text
from results.store import Store

SECTIONS: tuple[tuple[str, str, Callable[[Found], str]], ...] = (
    ("table", "Table", accuracy.the_table),
    ("people", "Image by image", individuals.by_image),
    ("ranks", "Over data sets", ranked.over_data_sets),
    ("threshold", "Against the threshold", accuracy.against_threshold),
    ("slices", "Against the number of slices", accuracy.against_slices),
    ("curves", "Learning curves", curves.learning_curves),
    ("confusion", "Confusion", confusion.confusion),
    ("distances", "Distances", densities.densities),
    ("map", "Map of the embedding", plane.plane),
    ("diagnostics", "Inside the slices", slices.diagnostics),
    ("search", "Search", search.searched),
    ("failures", "Failures", account.failures),
    ("provenance", "Provenance", account.provenance),
    ("cost", "Cost", account.cost),
)
STYLE, SCRIPT = (Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("style.css", "script.js"))
OF_THE_BEST = ("confusion", "distances", "map", "diagnostics")  # sections that show a search's best trial alone
REFRESH = 30  # seconds
AGAIN = f'<meta http-equiv="refresh" content="{REFRESH}">\n'
LOOKS = f"; this page looks again every {REFRESH} s"


def page(store: Store, study: str, live: bool = False) -> str:
    """The page of a study as it stands in the store; the same store gives the same bytes.

    Args:
        store: the results.
        study: its name.
        live: whether it is written again while the study runs, so that a browser should look again: until it is finished.

    Raises:
        StoreError: there is no such study, or it cannot be read.

    """
    found = Found.read(store, study)
    planned, ended = _planned(found), len(found.trials)
    again = AGAIN if live and ended < planned else ""
    links = "".join(f'<li><a href="#{name}">{esc(title)}</a></li>' for name, title, _ in SECTIONS)
    parts = [_section("question", "Question", _question(found))]
    parts += [_section(name, title, _whose(found, name) + draw(found)) for name, title, draw in SECTIONS]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy()}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n{again}'
        f'<title>{esc(study)}: report</title>\n<link rel="icon" href="data:,">\n<style>{STYLE}</style>\n</head>\n<body>\n'
        '<a class="skip" href="#question">Skip to the report</a>\n'
        f"<header>\n<h1>{esc(study)}</h1>\n{_state(found, planned, bool(again))}"
        f'<nav aria-label="Contents"><ul><li><a href="#question">Question</a></li>{links}</ul></nav>\n</header>\n<main>\n'
        f"{''.join(parts)}</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def halted(text: str, resume: str) -> str:
    """The page of a study on which nobody works any more: a browser looks no more, and a reader is told how to go on.

    Args:
        text: a page.
        resume: the command.

    """
    return text.replace(AGAIN, "", 1).replace(LOOKS, f"; nobody works on it any more, go on with {esc(resume)}", 1)


def _section(name: str, title: str, body: str) -> str:
    return f'<section id="{name}" aria-labelledby="h-{name}">\n<h2 id="h-{name}">{esc(title)}</h2>\n{body}</section>\n'


def _policy() -> str:
    """Nothing may be loaded, and only the page's own style and script, known by their hashes, take effect."""
    style, script = (base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in (STYLE, SCRIPT))
    own = f"style-src 'sha256-{style}'; script-src 'sha256-{script}'"
    return f"default-src 'none'; img-src data:; {own}; base-uri 'none'; form-action 'none'"


def _planned(found: Found) -> int:
    """Trials that the study consists of; a search has proposed only some of them while it runs."""
    proposed = len({member["trial_key"] for member in found.rows.members})
    asked = _config(found).get("search", {}).get("trials") if found.searches else None
    return max(proposed, asked) if isinstance(asked, int) else proposed


def _config(found: Found) -> dict[str, Any]:
    config = json.loads(found.rows.study["config"] or "{}")
    return config if isinstance(config, dict) else {}


def _state(found: Found, planned: int, refreshed: bool) -> str:
    """How far the study is."""
    states = [row["status"] for row in found.trials]
    ended = [row["ended_at"] for row in found.trials if row["ended_at"]]
    done = f"{states.count('done')} of {count(planned, 'trial')} {'is' if planned == 1 else 'are'} done"
    stopped = f", {states.count('stopped')} stopped early" if "stopped" in states else ""
    parts = [f"{done}{stopped}, {states.count('failed')} failed"]
    if left := planned - len(states):
        parts.append(f"{left} not begun or not ended" + (LOOKS if refreshed else ""))
    if ended:
        parts.append(f"the last ended at {text(max(ended))}")
    bar = (
        f'<progress max="{planned}" value="{len(states)}" aria-label="Trials that have ended"></progress>\n'
        if left
        else ""
    )
    return paragraph(f"{'; '.join(parts)}.", "state") + bar


def _whose(found: Found, section: str) -> str:
    """Which trial a section of a search shows."""
    if not found.searches or found.shown is None or section not in OF_THE_BEST:
        return ""
    return paragraph(f"Of this search the best trial that is done is shown, {next(iter(found.arms))}.")


def _question(found: Found) -> str:
    """What the study asks, in its author's words where it has them, and what it looks at."""
    asked = found.rows.study.get("question") or (_config(found).get("ablation") or {}).get("question")
    arms = dict.fromkeys(member["arm"] for member in found.rows.members)
    data = ", ".join(sorted({str(row["dataset"]) for row in found.trials})) or "its data set"
    if found.searches:
        looks = f"It searches for the best {found.words} on {data}."
    elif len(arms) > 1:
        looks = f"It compares {len(arms)} arms by {found.words} on {data}, each with {found.baseline}."
    else:
        looks = f"It measures {found.words} of one arm on {data}."
    return (
        paragraph(asked, "question") if asked else paragraph("No question is noted with this study.", "missing")
    ) + paragraph(looks)
