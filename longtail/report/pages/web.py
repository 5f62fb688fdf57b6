"""Pages from the templates beside this file: self-contained HTML that opens from disk and asks no network for anything.

Whatever a template shows is escaped; only `Markup` (of a macro, or of a drawing that this package made) goes in as it
is. A name that a template uses and nobody passed is an error. The page's policy (`Content-Security-Policy`) lets it run
its own script, known by hash, and show images that lie inside it; nothing else loads.
"""

from __future__ import annotations

import base64
import hashlib

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def _environment() -> Environment:
    loader = PackageLoader("longtail.report", "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    style, script = (loader.get_source(environment, name)[0] for name in ("style.css", "sort.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    environment.globals |= {"style": Markup(style), "script": Markup(script), "script_hash": f"sha256-{digest}"}
    return environment


ENVIRONMENT = _environment()


def page(template: str, **values: object) -> str:
    """The text of longtail/report/templates/<template>, filled in; ends in a newline.

    Raises jinja2.TemplateNotFound, and jinja2.UndefinedError for a value that is used and missing.
    """
    return ENVIRONMENT.get_template(template).render(**values).rstrip("\n") + "\n"


def data_uri(kind: str, content: bytes) -> str:
    """An image inside the page: `data:<kind>;base64,…`, kind being its media type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
