"""Self-contained pages from report/templates/, and the state of the repository that a page shows.

Whatever a template shows is escaped; only `Markup` (of a macro, or of a drawing that this package made) goes in as it
is. A name that a template uses and nobody passed is an error. The page's policy (`Content-Security-Policy`) lets it run
its own script, known by hash, and show images that lie inside it; nothing else loads.

Which state of the repository a generated page shows: one digest of the files in git that it is made from.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

LOADER = PackageLoader("longtail.report", "templates")


def _environment() -> Environment:
    environment = Environment(
        loader=LOADER, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["style"] = Markup(_source("style.css"))
    return environment


def _source(name: str) -> str:
    return LOADER.get_source(None, name)[0]


ENVIRONMENT = _environment()


def page(template: str, scripts: tuple[str, ...] = ("sort.js", "enlarge.js"), **values: object) -> str:
    """The text of longtail/report/templates/<template>, filled in; ends in a newline. scripts: files beside it, joined
    into the page's one script, in this order.

    Raises jinja2.TemplateNotFound, and jinja2.UndefinedError for a value that is used and missing.
    """
    script = "".join(map(_source, scripts))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    given = values | {"script": Markup(script), "script_hash": f"sha256-{digest}"}
    return ENVIRONMENT.get_template(template).render(**given).rstrip("\n") + "\n"


def data_uri(kind: str, content: bytes) -> str:
    """An image inside the page: `data:<kind>;base64,…`, kind being its media type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


REPORTS = (
    "metrics",
    "tables",
    "figures",
    "analysis",
    "runs",
    "experts",
    "machines",
)  # folders of reports/ that are in git
META = re.compile(r'<meta name="inputs" content="([0-9a-f]{64})">')


def digest(reports: Path, files: dict[str, Path]) -> str:
    """sha256 (hex) over names and contents, sorted by name. files: {name: file or folder} beside those of reports/.

    Names are those within the repository, so the place of a clone does not matter. What is missing is left out, as are
    files whose name begins with a dot.
    """
    found = {}
    for name, path in ({f"reports/{folder}": reports / folder for folder in REPORTS} | files).items():
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.is_file() and not file.name.startswith("."):
                found[f"{name}/{file.relative_to(path).as_posix()}"] = file
    total = hashlib.sha256()
    for name in sorted(found):
        total.update(f"{name}\0{hashlib.sha256(found[name].read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def stated(page: str) -> str | None:
    """The digest that a page was made from; None where it states none."""
    found = META.search(page)
    return found[1] if found else None
