"""What scripts are made of: what is found is what Python imports, what counts is what Python reads."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from longtail.base import source
from longtail.base.errors import UserError
from tests.helpers.root import ROOT

TREE = {
    "stages/one.py": "from longtail.a import first\nfrom longtail.b.second import f\nimport json\n",
    "stages/two.py": "def main():\n    import longtail.c.late\n",
    "longtail/__init__.py": "",
    "longtail/a/__init__.py": "",
    "longtail/a/first.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from longtail.c import late\n",
    "longtail/b/__init__.py": "",
    "longtail/b/second.py": "import longtail.b.third as third\n",
    "longtail/b/third.py": "import longtail.b.second\n",  # a circle
    "longtail/b/unused.py": "",
    "longtail/c/__init__.py": "",
    "longtail/c/late.py": "from longtails import x\n",  # another package
    "longtail/c/page.html": "<p>",
    "longtail/c/templates/style.css": "p {}",
    "longtail/c/.hidden": "",
    "longtail/methods/__init__.py": "",
    "longtail/methods/m.py": "from longtail.b import third\n",
}
ONE = {"stages/one.py", "longtail/__init__.py", "longtail/a/__init__.py", "longtail/a/first.py"}
ONE |= {"longtail/b/__init__.py", "longtail/b/second.py", "longtail/b/third.py"}
TWO = {"stages/two.py", "longtail/__init__.py", "longtail/c/__init__.py", "longtail/c/late.py"}
TWO |= {"longtail/c/page.html", "longtail/c/templates/style.css"}


@pytest.fixture
def tree(tmp_path) -> Path:
    for name, text in TREE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def files(script: str, root: Path) -> list[str]:
    return [line.partition(" ")[2] for line in source.made_of(Path(script), root).splitlines()]


def test_a_list_has_what_is_imported_and_no_more(tree):
    assert files("stages/one.py", tree) == sorted(ONE)
    assert files("stages/two.py", tree) == sorted(TWO)
    names = {"one": "stages/one.py", "two": "stages/two.py", "methods/m": "longtail/methods/m.py"}
    assert {name: str(path) for name, path in source.scripts(tree).items()} == names


def test_an_edit_changes_the_lists_of_those_that_import_it_unless_it_is_lay_out(tree, monkeypatch):
    monkeypatch.chdir(tree)
    source.MADE.joinpath("methods").mkdir(parents=True)
    assert set(source.outdated()) == {"one", "two", "methods/m"}  # none is there
    source.refresh(source.scripts())
    assert source.outdated() == {}
    edits = {
        "longtail/a/first.py": {"one"},
        "longtail/b/third.py": {"one", "methods/m"},
        "longtail/c/late.py": {"two"},
        "longtail/b/unused.py": set(),
        "stages/two.py": {"two"},
    }
    for name, expected in edits.items():
        for text, changes in (("\n# a comment\n", False), ("\nedited = True\n", True)):
            (tree / name).write_text(TREE[name] + text)
            assert set(source.outdated()) == (expected if changes else set()), name
            assert source.edited(source.scripts()) == ([name] if changes and expected else [])
        (tree / name).write_text(TREE[name])
    (tree / "longtail/c/templates/style.css").write_text("p {margin: 0}")
    assert set(source.outdated()) == {"two"}


def test_a_stage_that_dvc_starts_records_the_code_that_runs(tree, monkeypatch):
    """Edited after the stage `code` ran. By hand nothing is written."""
    monkeypatch.chdir(tree)
    source.MADE.joinpath("methods").mkdir(parents=True)
    source.refresh(source.scripts())
    for name in source.scripts():
        os.utime(source.MADE / name, (1e9, 1e9))
    for name in ("longtail/b/third.py", "longtail/c/late.py"):
        (tree / name).write_text(f"{TREE[name]}edited = True\n")
    source.before_stage("stages/one.py")
    assert set(source.outdated()) == {"one", "two", "methods/m"}
    monkeypatch.setenv("DVC_STAGE", "one@entry")
    source.before_stage(str(tree / "stages/one.py"))
    assert set(source.outdated()) == {"two"}
    source.before_stage("stages/unknown.py")  # of a pipeline without such lists


def test_what_cannot_be_read_is_told_with_its_line(tree):
    faults = {
        "x = 1\nif x\n": r"longtail/a/first.py, line 2: Python cannot read it",
        "from . import b\n": "line 1: a relative",
    }
    for text, said in faults.items():
        (tree / "longtail/a/first.py").write_text(text)
        with pytest.raises(UserError, match=said):
            source.made_of(Path("stages/one.py"), tree)


WRITTEN = b'''# A comment
"""A docstring."""
from __future__ import annotations
import os.path as p, sys
def f(a, /, b: int = 1, *c, d=None, **e) -> list[str]:
    "Of a function."
    match b:
        case {"k": [1, *rest]} if rest:
            return [f"{a!r:>{b}}" "x" f\'{d}\', ..., None, b"\\0", 1j, -1.5e300]
    with open(a) as g, open(b):
        async def h(): return await (lambda: (yield))()
    return
class K(dict, metaclass=type):
    x: int = 0
'''


def test_a_digest_is_the_same_under_every_version_of_python():
    """Written down under 3.11 and found the same under 3.13."""
    assert source.read(WRITTEN).digest == "501346a52d1b37a5ada448f4d199679a4f677842b3b144862682247a7b02594a"
    lines = (
        WRITTEN.replace(b"# A comment", b"").replace(b'"""A docstring."""', b"").replace(b"g, open(b)", b"g,open( b )")
    )
    assert source.read(lines).digest == source.read(WRITTEN).digest
    changes = (b"b: int = 1", b"b: int = 2"), (b"d=None", b"d=0"), (b"!r", b"!s"), (b"return\n", b"return None\n")
    changes += (b"..., None", b"None, ..."), (b"/, ", b""), (b"-1.5", b"1.5"), (b"*rest", b"rest")
    found = {source.read(WRITTEN.replace(*change)).digest for change in changes}
    assert len(found) == len(changes) and all(change[0] in WRITTEN for change in changes)


LOADED = """
import builtins, importlib, json, runpy, sys
asked = {}  # of each module: what it asked for while it was loaded, whether or not that was there already

def note(within, *names):
    asked.setdefault(within, set()).update(name for name in names if name in sys.modules)

def statement(name, globals=None, locals=None, fromlist=(), level=0, plain=builtins.__import__):
    module = plain(name, globals, locals, fromlist, level)
    parts = name.split(".")
    above = [".".join(parts[:n]) for n in range(1, len(parts) + 1)]
    note((globals or {}).get("__name__"), *above, *(f"{name}.{part}" for part in fromlist or ()))
    return module

def call(name, package=None, plain=importlib.import_module):
    module = plain(name, package)
    note(sys._getframe(1).f_globals["__name__"], name)
    return module

builtins.__import__, importlib.import_module = statement, call
found = {}
for script in sys.argv[1:]:
    runpy.run_path(script, run_name=script)
    loaded, open_ = set(), [script]
    while open_:
        new = {n for n in asked.get(open_.pop(), ()) if n.partition(".")[0] == "longtail"} - loaded
        loaded |= new
        open_ += new
    found[script] = [sys.modules[name].__file__ for name in loaded]
print(json.dumps(found))
"""


def test_lists_have_all_that_scripts_import():
    """What Python loads of longtail when a script is read stands in its list. Modules are loaded once, by the first
    script that asks for them; what they themselves ask for is noted then, and belongs to every script that does."""
    scripts = [str(path) for name, path in source.scripts(ROOT).items() if "/" not in name]
    done = subprocess.run([sys.executable, "-c", LOADED, *scripts], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for script, loaded in json.loads(done.stdout).items():
        listed = files(script, ROOT)
        assert loaded and {str(Path(file).relative_to(ROOT)) for file in loaded} <= set(listed), script
        assert len(listed) == len(set(listed))


def test_methods_stand_alone_and_nothing_beside_the_modules_is_forgotten():
    names = source.scripts(ROOT)
    for name in (n for n in names if n.startswith("methods/")):
        of_methods = [f for f in files(str(names[name]), ROOT) if f.startswith("longtail/methods/")]
        assert of_methods == [f"longtail/{name}.py"]
    beside = {str(p.relative_to(ROOT)) for p in (ROOT / "longtail").rglob("*.*") if p.suffix not in (".py", ".pyc")}
    assert beside <= set(files("stages/report.py", ROOT))
    style = (ROOT / "longtail/report/figures/longtail.mplstyle").read_bytes()
    line = f"{hashlib.sha256(style).hexdigest()} longtail/report/figures/longtail.mplstyle\n"
    assert line in source.made_of(Path("stages/figures.py"), ROOT)
