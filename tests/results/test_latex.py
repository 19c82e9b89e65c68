"""Every kind of table compiles."""

import json
import shutil
import subprocess

import pytest

from results import Store
from results.published import select
from results.render import Table, render
from results.tables import comparison_table, named_table, ranking_table
from tests.results.fakes import START, fake_ablation, fake_search
from tests.results.test_across import commit
from tests.results.test_people import fake_judged

DOCUMENT = r"""\documentclass{article}
\usepackage[landscape,margin=1cm]{geometry}
\usepackage{booktabs}
\begin{document}
%s\end{document}
"""


def missing():
    """Why nothing can be compiled here, or None."""
    if shutil.which("pdflatex") is None:
        return "there is no pdflatex: apt-get install texlive-latex-recommended"
    found = subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True, text=True).stdout
    return None if found.strip() else "LaTeX has no booktabs: apt-get install texlive-latex-recommended"


def of_every_kind(store):
    """A layout with published numbers, a list with them, and the tables across studies, with all their columns."""
    fake_judged(store)
    arms = ["softmax-scratch", "tuplet_clusters-pretrained", "tuplet_clusters-scratch"]
    ids = [one.id for one in select({"source": "Liu et al. 2019", "dataset": "ckplus"})]
    config = json.dumps({"dataset": {"name": "ckplus", "classes": 7}})
    fake_ablation(store, "grid", arms=dict.fromkeys(arms, 0.7), folds=2, seeds=1, dataset="ckplus")
    fake_ablation(store, "other", folds=2, seeds=1, dataset="ckplus", protocol="paper")
    layout = json.dumps({"rows": "method", "columns": "start", "arms": {arm: arm.split("-") for arm in arms}})
    for study, changes in (("grid", {"layout": layout, "ablation": "pretraining"}), ("other", {})):
        [row] = store.read("studies", study=study).to_pylist()
        store.write("studies", study, [row | {"published": ids, "config": config} | changes])
    for index, (protocol, search) in enumerate(
        (("sealed", None), ("paper", None), ("sealed", "hunt"), ("sealed", None))
    ):
        commit(
            store,
            f"c{index}",
            0.7 + index / 50,
            protocol=protocol,
            search=search,
            seed=int(index == 3),
            options={"c": 1},
        )
    member = {"study": "hunt", "arm": "c2", "index": 0, "fold": 0, "seed": 0, "trial_key": "c2"}
    store.write("members", "hunt-0", [member])
    store.write("studies", "hunt", [{"study": "hunt", "kind": "search", "metric": "val_accuracy", "created_at": START}])
    tables = [named_table(store, name) for name in ("optimism", "winners_curse", "ranks", "grid", "other")]
    assert any("IDFERM" in cell for row in tables[3].for_people()[1] for cell in row)
    return [*tables, named_table(store, "mcnemar", "demo")]


@pytest.mark.slow
@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_tables_compile_without_a_warning_of_ours(tmp_path):
    store = Store(tmp_path / "tables")
    fake_ablation(store, arms={r"100% of_a & {b} \c": 0.7, "~^#$ <x> [0.1]": 0.8}, folds=3, seeds=2, protocol="paper")
    fake_search(store, trials=6)
    signs = "\u2212 \u00b1 \u00d7 \u2013 \u00e9 \u00fc \u00df \u2020 \u03c4 \u2265 \u201cq\u201d \u5e74 \"'|`\n"
    letters = "".join(map(chr, range(0xA0, 0x250)))
    odd = Table(("[a]", "b"), [("[1, 2]", signs), (None, -1.5)], caption=signs + letters, marked=frozenset({(0, 1)}))
    tables = [
        comparison_table(store, "demo"),
        ranking_table(store, "hunt"),
        odd,
        *of_every_kind(Store(tmp_path / "more")),
    ]
    (tmp_path / "t.tex").write_text(DOCUMENT % "\n".join(render(table, "latex") for table in tables), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0, done.stdout[-3000:]
    assert (tmp_path / "t.pdf").stat().st_size > 10_000
    assert not [line for line in done.stdout.splitlines() if "Undefined" in line or "Unicode" in line]
