"""All of reports/ as one zip file that explains itself: README.md, MANIFEST (sha256 of every file), reports/, and what
its pages link to beside it: licence, citation, the papers' pages and documents, with what these link to.

The same files give the same bytes: names sorted, no times. Unpacked, `sha256sum --check MANIFEST` verifies it too.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
import zlib
from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote

from longtail.base.errors import UserError

TOP = "longtail-reports"  # the one folder that unpacking makes
MOMENT = (1980, 1, 1, 0, 0, 0)  # the first that a zip file can tell
HOLDS = {  # what stands under reports/
    "metrics": "accuracy, calibration and their mean and standard error over seeds, a JSON for each entry",
    "scores": "the few numbers of metrics/ that `dvc metrics` shows",
    "tables": "each table, printed beside ours, as CSV, Markdown, LaTeX (booktabs, graphicx), and HTML "
    "to be put into a page, whose links to runs lead to places in index.html",
    "figures": "each figure as SVG, for light and dark, or PNG where it shows pictures, with the numbers drawn as CSV",
    "figures_print": "each figure for print, as PDF and as PNG of 300 pixels to the inch",
    "studies": "a page for each study, in Markdown, with all its tables and figures",
    "overviews": "what is compared over studies, as figure and table",
    "analysis": "feature rank, attention, entropy and curves, measured on the trained models",
    "runs": "what each run was (run.json), how it does on the long tail (diagnostics.json), what it predicts",
    "experts": "CLS, DIST and their fusion, and agreement with the teacher",
    "machines": "where and how fast the runs in git were made",
    "pages": "a page for each run",
    "review": "reviewers' pages: reproducibility, checklists, cost",
    "badges": "the README's badges",
    "weights": "of small runs the first seed's weights at the last epoch, as safetensors; cards/models says more",
    "cards": "data sets as Croissant (JSON-LD), runs as model cards",
}
FILES = {  # what stands in reports/ itself
    "results.csv": "all results as one tidy table, for `pandas.read_csv`: a row a run, seed, head, epoch and metric",
    "runs.csv": "data, configuration, training time and processor of each run and seed",
    "index.html": "every printed number beside ours, the claims, and each run behind them",
    "compare.html": "two runs of a study beside one another: what differs in their settings, and their curves",
    "claims.csv": "the papers' claims, our differences, their intervals, and verdicts; claims.md is the same to read",
}
LINK = re.compile(r'href="(?!#|\w+:)([^"#]+)|\]\((?!#|\w+:)([^)#\s]+)')  # in HTML, in Markdown; to a file
NOT_PRINTED = "Figures for print (PDF) are not in it: where it was packed there were none (`make repro` makes them)."
README = """# Reports

Everything under `reports/` of the project, as it was made there.{first}

{folders}
{beside}
`MANIFEST` holds the sha256 of every file: `sha256sum --check MANIFEST` in this folder.
An entry that was not run has no file, and its cells are empty or say so.
{printed}
## Predictions

`reports/runs/<study>/<entry>/predictions.npz` holds the top-1 class of every test image and its true class (`labels`):
`seed<s>_<last|best|validation>_<cls|dist|avg>`, at the last epoch, at the best one on the test set and, of data sets
with validation images, at the one chosen on these, for each head and their average. `class_counts` are the training
images of each class. With NumPy alone, top-1 in %:

```python
import numpy as np
found = np.load("{predictions}", allow_pickle=False)
print(100 * (found["seed0_last_avg"] == found["labels"]).mean())
```
"""


def contents(reports: Path) -> dict[str, bytes]:
    """{path in the archive: content} of README.md and all files of the folder but hidden ones, sorted.

    Raises UserError where there is none.
    """
    paths = {path.relative_to(reports): path for path in sorted(reports.rglob("*")) if path.is_file()}
    found = {
        f"reports/{name.as_posix()}": path.read_bytes()
        for name, path in paths.items()
        if not any(part.startswith(".") for part in name.parts)
    }
    if not found:
        raise UserError(f"{reports}: no report in it; make one first (make repro)")
    besides = {name: path.read_bytes() for name, path in beside(reports).items()}
    return {"README.md": readme(list(found), list(besides)).encode(), **besides, **found}


def beside(reports: Path) -> dict[str, Path]:
    """{path in the repository: file} of what the pages in reports/ lead to outside of it, and these in their turn,
    sorted. The repository's README is not among them: in the archive its own stands in that place."""
    reports = reports.resolve()
    root, found = reports.parent, {}
    pages = [*reports.glob("*.html"), *reports.rglob("*.md")]
    while pages:
        page = pages.pop()
        for link in filter(None, (link for pair in LINK.findall(page.read_text(encoding="utf-8")) for link in pair)):
            path = (page.parent / unquote(link)).resolve()
            new = path.is_relative_to(root) and not path.is_relative_to(reports) and path != root / "README.md"
            if new and path.is_file() and (name := path.relative_to(root).as_posix()) not in found:
                found[name] = path
                pages += [path] if path.suffix == ".md" else []
    return dict(sorted(found.items()))


def readme(names: list[str], besides: list[str]) -> str:
    """What the folders hold, and how predictions are read; names: of the files, `reports/<folder>/...`; besides: of
    those that pages link to."""
    counts = Counter(name.split("/")[1] for name in names if name.count("/") > 1)
    pages = sorted(name for name in names if name.count("/") == 1)
    lines = [f"* `reports/{folder}/` ({n} files): {HOLDS.get(folder, 'more')}" for folder, n in sorted(counts.items())]
    told = {page: FILES.get(page.removeprefix("reports/")) for page in pages}
    lines += [f"* [`{page}`]({page})" + (f": {told[page]}" if told[page] else "") for page in pages]
    first = " Open [`reports/index.html`](reports/index.html) first." if "reports/index.html" in names else ""
    predictions = (name for name in names if name.endswith("/predictions.npz"))
    example = next(predictions, "reports/runs/<study>/<entry>/predictions.npz")
    tops = dict.fromkeys(f"`{top}{'/' if rest else ''}`" for top, _, rest in (name.partition("/") for name in besides))
    told = f"\nBeside it, of the repository, what its pages link to: {', '.join(tops)}.\n" if tops else ""
    return README.format(
        first=first, folders="\n".join(lines), beside=told, printed=_printed(names), predictions=example
    )


def _printed(names: list[str]) -> str:
    """Links to the figures for print; pages that are in git have none, since DVC keeps these files."""
    studies = defaultdict(list)
    for name in names:
        if name.startswith("reports/figures_print/") and name.endswith(".pdf"):
            studies[name.split("/")[2]].append(f"[{PurePosixPath(name).stem}]({quote(name)})")
    rows = [f"* `{study}`: {', '.join(links)}" for study, links in studies.items()]
    return "\n".join(["\n## Figures for print, as PDF\n", *rows, ""]) if rows else f"{NOT_PRINTED}\n"


def pack(reports: Path, out: Path) -> None:
    """Write the archive."""
    files = contents(reports)
    manifest = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items())
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {"README.md": files.pop("README.md"), "MANIFEST": manifest.encode(), **files}.items():
            about = zipfile.ZipInfo(f"{TOP}/{name}", MOMENT)
            about.external_attr = 0o644 << 16
            about.create_system = 3  # Unix, whatever the machine
            archive.writestr(about, content, zipfile.ZIP_DEFLATED)


def verify(path: Path) -> int:
    """The number of files, each as its MANIFEST says. Raises UserError for a damaged, missing or unlisted one."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}
            listed = archive.read(f"{TOP}/MANIFEST").decode()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; make it with --out") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, KeyError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: damaged or no archive of reports ({error}); make it again with --out") from None
    wanted = {f"{TOP}/{line[66:]}": line[:64] for line in listed.splitlines()}
    del found[f"{TOP}/MANIFEST"]
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            why = "missing" if name not in found else "not in MANIFEST" if name not in wanted else "not as in MANIFEST"
            raise UserError(f"{path}: {name} is {why}; make it again with --out")
    return len(found)
