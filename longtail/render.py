"""A laid-out table as Markdown, LaTeX (booktabs) or an HTML fragment."""

from __future__ import annotations

from longtail.tables import OURS, Cell, Grid
from longtail.web import page

_TEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"±": r"$\pm$", "−": "$-$", "–": "--", "ρ": r"$\rho$", "×": r"$\times$"},
}


def entry_id(name: str) -> str:
    """The anchor of an entry's line in the report."""
    return f"entry-{name}"


def to_markdown(grid: Grid) -> str:
    """Caption, pipe table, remarks; ends in a newline."""

    def text(cell: Cell) -> str:
        if cell.kind == "entry" and cell.name:
            return f"`{cell.name}`" + (f" {cell.text}" if cell.text else "")
        if cell.kind == "label":
            return cell.text.replace("|", "\\|") if cell.span else ""
        shown = f"*{cell.text}*" if cell.kind == "missing" else cell.text
        return shown + (f"<sup>{cell.mark}</sup>" if cell.mark else "")

    left = [kind in ("label", "what", "entry") for kind in (c.kind for c in grid.blocks[0][0])]
    lines = ["| " + " | ".join(grid.header) + " |", "|" + "|".join(":--" if x else "--:" for x in left) + "|"]
    lines += ["| " + " | ".join(text(c) for c in row) + " |" for block in grid.blocks for row in block]
    notes = [f"<sup>{mark}</sup> {note}" for mark, note in grid.footnotes.items()]
    below = "  \n".join([*grid.remarks, *notes])
    return f"**{grid.caption}**\n\n" + "\n".join(lines) + f"\n\n{below}\n"


def tex(text: str) -> str:
    """Plain text as LaTeX."""
    return "".join(_TEX.get(c, c) for c in text)


def to_latex(grid: Grid) -> str:
    """A table float for booktabs; ends in a newline."""

    def text(cell: Cell) -> str:
        if cell.kind == "entry":
            return f"\\texttt{{{tex(cell.name)}}} {{\\footnotesize {cell.text}}}" if cell.text else tex_entry(cell)
        if cell.kind == "label" and not cell.span:
            return ""
        shown = f"\\emph{{{tex(cell.text)}}}" if cell.kind == "missing" else tex(cell.text)
        return shown + (f"$^{{{cell.mark}}}$" if cell.mark else "")

    def tex_entry(cell: Cell) -> str:
        return f"\\texttt{{{tex(cell.name)}}}" if cell.name else ""

    columns = "".join("l" if c.kind in ("label", "what", "entry") else "r" for c in grid.blocks[0][0])
    body = "\n\\addlinespace\n".join(
        "\n".join(" & ".join(text(c) for c in row) + r" \\" for row in block) for block in grid.blocks
    )
    if all(len(block) == 1 for block in grid.blocks):
        body = body.replace("\\addlinespace\n", "")
    notes = [tex(r) for r in grid.remarks] + [f"$^{{{m}}}$ {tex(n)}" for m, n in grid.footnotes.items()]
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}",
            "\\begin{table}",
            "\\centering",
            f"\\caption{{{tex(grid.caption)}}}",
            f"\\label{{tab:{grid.name}}}",
            f"\\begin{{tabular}}{{{columns}}}",
            "\\toprule",
            " & ".join(tex(h) for h in grid.header) + r" \\",
            "\\midrule",
            body,
            "\\bottomrule",
            "\\end{tabular}",
            "\\par\\smallskip\\footnotesize " + "\\\\\n".join(notes),
            "\\end{table}",
            "",
        ]
    )


def to_html(grid: Grid) -> str:
    """A <figure> with the table and its remarks, for the report's page; ends in a newline."""
    return page("table.html.j2", grid=grid, last=OURS["last"], entry_id=entry_id)
