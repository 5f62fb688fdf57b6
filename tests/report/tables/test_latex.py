"""Every LaTeX table in git compiles, fits the text, and leaves no warning; where there is a LaTeX to try."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from longtail.report.results import load
from longtail.report.tables.grid import Cell, Grid, layout, records
from longtail.report.tables.render import to_latex
from tests.helpers.reporting import PUBLISHED, study, write_metrics
from tests.helpers.root import ROOT

COMMANDS = {  # to make document.pdf from document.tex, log in document.log
    "tectonic": ["tectonic", "--keep-logs", "document.tex"],
    "pdflatex": ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "document.tex"],
}
LATEX = next((command for name, command in COMMANDS.items() if shutil.which(name)), None)
COMMITTED = sorted((ROOT / "reports").rglob("*.tex"))
needs_latex = pytest.mark.skipif(LATEX is None, reason=f"no {' and no '.join(COMMANDS)} on this machine")


def compiled(folder: Path, *tables: str) -> str:
    """The log of a document of these tables; the packages are those that they name."""
    for table in tables:
        assert table.startswith("% needs \\usepackage{booktabs,graphicx}\n")
    body = "\n\\clearpage\n".join(tables)
    document = "\\documentclass{article}\n\\usepackage{booktabs,graphicx}\n\\begin{document}\n%s\n\\end{document}\n"
    (folder / "document.tex").write_text(document % body, encoding="utf-8")
    done = subprocess.run(LATEX, cwd=folder, capture_output=True, text=True, errors="replace", timeout=300)
    log = (folder / "document.log").read_text(errors="replace")
    assert done.returncode == 0, "\n".join(re.findall(r"(?:^!.*|^l\.\d.*)", log, re.MULTILINE)) or done.stderr
    assert (folder / "document.pdf").read_bytes().startswith(b"%PDF")
    return log


@needs_latex
def test_committed_tables_compile(tmp_path):
    assert COMMITTED
    log = compiled(tmp_path, *(path.read_text(encoding="utf-8") for path in COMMITTED))
    assert not re.findall(r"Overfull|multiply.defined|Undefined|Missing character", log)


@needs_latex
def test_made_up_tables_compile(tmp_path):
    results = load(write_metrics(tmp_path / "metrics"), "s", study())
    grids = [layout(table, records(table, results, PUBLISHED), study()) for table in study().tables]
    log = compiled(tmp_path, *(to_latex(grid, grid.name) for grid in grids))
    assert "Overfull" not in log


@needs_latex
def test_names_of_all_kinds_and_a_very_wide_table_compile(tmp_path):
    odd = r"a_b \c {d} 50 % & #1 $x$ ~y^2 <z> | “q” ± − – ρ ×"
    row = [Cell(odd, "label"), *(Cell("100.00 ± 0.00", "ours", "a") for _ in range(20)), Cell("h", "entry", name=odd)]
    header = ["", *(f"A rather long header {i}" for i in range(20)), "Entry"]
    grid = Grid("odd", odd, header, [[row]], {"a": odd}, [odd])
    log = compiled(tmp_path, to_latex(grid, "odd"))
    assert "Overfull" not in log and "Missing character" not in log


def test_committed_tables_name_no_label_twice():
    labels = [name for path in COMMITTED for name in re.findall(r"\\label\{(.*?)\}", path.read_text(encoding="utf-8"))]
    assert len(labels) == len(set(labels)) == len(COMMITTED)
