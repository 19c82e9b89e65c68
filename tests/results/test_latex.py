"""Every kind of table compiles."""

import shutil
import subprocess

import pytest

from results import Store
from results.render import Table, render
from results.tables import comparison_table, ranking_table
from tests.results.fakes import fake_ablation, fake_search

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


@pytest.mark.slow
@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_tables_compile_without_a_warning_of_ours(tmp_path):
    store = Store(tmp_path / "tables")
    fake_ablation(store, arms={r"100% of_a & {b} \c": 0.7, "~^#$ <x> [0.1]": 0.8}, folds=3, seeds=2, protocol="paper")
    fake_search(store, trials=6)
    signs = "\u2212 \u00b1 \u00d7 \u2013 \u00e9 \u00fc \u00df \u2020 \u03c4 \u2265 \u201cq\u201d \u5e74 \"'|`\n"
    letters = "".join(map(chr, range(0xA0, 0x250)))
    odd = Table(("[a]", "b"), [("[1, 2]", signs), (None, -1.5)], caption=signs + letters, marked=frozenset({(0, 1)}))
    tables = [comparison_table(store, "demo"), ranking_table(store, "hunt"), odd]
    (tmp_path / "t.tex").write_text(DOCUMENT % "\n".join(render(table, "latex") for table in tables), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0, done.stdout[-3000:]
    assert (tmp_path / "t.pdf").stat().st_size > 10_000
    assert not [line for line in done.stdout.splitlines() if "Undefined" in line or "Unicode" in line]
