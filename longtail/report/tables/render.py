"""A laid-out table as Markdown, LaTeX (booktabs) or an HTML fragment."""

from __future__ import annotations

from itertools import pairwise
from textwrap import wrap

from longtail.base.text import pipe_table, plain
from longtail.report.pages.web import page
from longtail.report.tables.grid import ONE_EPOCH, OURS, Cell, Grid

_TEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"±": r"$\pm$", "−": "$-$", "–": "--", "ρ": r"$\rho$", "×": r"$\times$"},
    **{c: f"${c}$" for c in "<>|"},
    **{"“": "``", "”": "''", "’": "'", "`": r"\`{}"},
}


BREAK, UNDERSCORE = "\\allowbreak{}", "\\_"


def entry_id(name: str) -> str:
    """The anchor of an entry's line in the report."""
    return f"entry-{name}"


def to_markdown(grid: Grid) -> str:
    """Caption, pipe table, remarks; ends in a newline. Hashes of configurations are comments."""

    def text(cell: Cell) -> str:
        if cell.kind == "entry" and cell.name:
            return f"`{cell.name}`" + (f"<!-- {cell.text} -->" if cell.text else "")
        if cell.kind == "label":
            return plain(cell.text) if cell.span else ""
        shown = f"*{cell.text}*" if cell.kind == "missing" else plain(cell.text)
        return shown + (f"<sup>{cell.mark}</sup>" if cell.mark else "")

    align = "".join("l" if c.kind in ("label", "what", "entry") else "r" for c in grid.blocks[0][0])
    lines = pipe_table(grid.header, align, [[text(c) for c in row] for block in grid.blocks for row in block])
    notes = [f"<sup>{mark}</sup> {plain(note)}" for mark, note in grid.footnotes.items()]
    below = "  \n".join([*map(plain, grid.remarks), *notes])
    return f"**{plain(grid.caption)}**\n\n" + "\n".join(lines) + f"\n\n{below}\n"


def tex(text: str) -> str:
    """Plain text as LaTeX, on one line, its hyphens not joined into dashes."""
    text = " ".join(text.split("\n"))
    return "".join(_TEX.get(c, "{}-" if c == "-" == before else c) for before, c in zip(" " + text, text, strict=False))


def to_latex(grid: Grid, label: str) -> str:
    """A table float as wide as the text at most, for booktabs and graphicx; ends in a newline.

    What the row is of stands above its lines, and entries below the table: names that long leave no room for numbers.
    Hashes of configurations are comments.
    label: of the float, after `tab:`.
    """
    kinds = [cell.kind for cell in grid.blocks[0][0]]
    stacked = "what" in kinds
    shown = range(int(stacked), len(kinds) - ("entry" in kinds))

    def text(cell: Cell) -> str:
        plain = f"\\emph{{{tex(cell.text)}}}" if cell.kind == "missing" else tex(cell.text)
        return plain + (f"$^{{{cell.mark}}}$" if cell.mark else "")

    def line(row: list[Cell], first: str) -> str:
        return " & ".join([first, *(text(row[i]) for i in shown[1:])]) + r" \\"

    def lines(block: list[list[Cell]]) -> str:
        what, (first, *_) = tex(block[0][0].text), block
        if len(block) == 1:
            return line(first, f"{what}, {text(first[1])}" if stacked else what)
        above = f"\\multicolumn{{{len(shown)}}}{{l}}{{{what}}} \\\\"
        return "\n".join([above, *(line(row, f"\\quad {text(row[1])}") for row in block)])

    body = lines(grid.blocks[0])
    for before, block in pairwise(grid.blocks):
        body += ("\n" if len(before) == len(block) == 1 else "\n\\addlinespace\n") + lines(block)
    notes = [tex(r) for r in grid.remarks] + [f"$^{{{m}}}$ {tex(n)}" for m, n in grid.footnotes.items()]
    entries = {c.name: c.text for block in grid.blocks for row in block for c in row if _names(c)}
    if entries:
        notes.append(f"Entries, from above: {', '.join(map(_tex_entry, entries))}.")
    return "\n".join(
        [
            "% needs \\usepackage{booktabs,graphicx}",
            *(f"% {name}: configuration {text}" for name, text in entries.items() if text),
            "\\begin{table}",
            "\\centering\\small",
            f"\\caption{{{tex(grid.caption)}}}",
            f"\\label{{tab:{label}}}",
            "\\par\\smallskip\\setlength{\\tabcolsep}{4pt}",
            "\\sbox0{%",
            f"\\begin{{tabular}}{{l{'r' * (len(shown) - 1)}}}",
            "\\toprule",
            " & ".join(_tex_header(grid.header[i]) for i in shown) + r" \\",
            "\\midrule",
            body,
            "\\bottomrule",
            "\\end{tabular}}%",
            "\\ifdim\\wd0>\\linewidth\\resizebox{\\linewidth}{!}{\\usebox0}\\else\\usebox0\\fi",
            "\\par\\smallskip",
            "\\parbox{\\linewidth}{\\footnotesize\\raggedright " + "\\\\\n".join(notes) + "}",
            "\\end{table}",
            "",
        ]
    )


def _names(cell: Cell) -> bool:
    return cell.kind == "entry" and bool(cell.name)


def _tex_entry(name: str) -> str:
    """An entry's name, which may be broken after - and _."""
    return f"\\texttt{{{tex(name).replace('-', '-' + BREAK).replace(UNDERSCORE, UNDERSCORE + BREAK)}}}"


def _tex_header(text: str) -> str:
    """In lines of about twelve letters, the last one on the line of the others."""
    words = [tex(part) for part in wrap(text, 12)]
    return words[0] if len(words) == 1 else f"\\shortstack[r]{{{(chr(92) * 2).join(words)}}}" if words else ""


def to_html(grid: Grid) -> str:
    """A <figure> with the table and its remarks, for the report's page; ends in a newline."""
    return page("table.html.j2", grid=grid, last=(OURS["last"], ONE_EPOCH), entry_id=entry_id)
