"""The frame of every page: what is shown is escaped, nothing is fetched, and only the page's own script may run."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from jinja2 import DictLoader, UndefinedError

from longtail.report.pages.web import ENVIRONMENT, data_uri, page

CHILD = (
    '{% extends "base.html.j2" %}{% block title %}{{ name }}{% endblock %}{% block content %}{{ name }}{% endblock %}'
)


@pytest.fixture
def child(monkeypatch):
    """A page made of the base template and one name."""
    loaders = ENVIRONMENT.loader
    both = DictLoader({"child": CHILD, "base.html.j2": loaders.get_source(ENVIRONMENT, "base.html.j2")[0]})
    monkeypatch.setattr(ENVIRONMENT, "loader", both)
    return lambda **values: page("child", **values)


def test_what_is_shown_is_escaped(child):
    text = child(name='<script>alert("1")</script> & co')
    shown = "&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt; &amp; co"
    assert f"<title>{shown}</title>" in text and text.count(shown) == 2 and text.endswith("</html>\n")
    assert len(re.findall("<script", text)) == 1


def test_a_name_that_nobody_passed_is_an_error(child):
    with pytest.raises(UndefinedError, match="name"):
        child()


def test_the_policy_lets_the_pages_own_script_run_and_nothing_else_load(child):
    text = child(name="x")
    script = re.search(r"<script>(.*)</script>", text, re.DOTALL)[1]
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["script-src"] == f"'sha256-{digest}'" and rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:" and "unsafe-eval" not in policy
    assert not re.search(r"https?:|@import|url\(|\son\w+=|<link|src=", text)


def test_an_image_inside_the_page():
    assert data_uri("image/png", b"\x89PNG") == "data:image/png;base64,iVBORw=="
