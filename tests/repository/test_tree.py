"""The folders of longtail/: who may import whom, what loads no PyTorch, and no file cut too fine or grown too long."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

from tests.helpers.root import ROOT

LIBRARY = ROOT / "longtail"
MAY_IMPORT = {  # folder: those below it that it may import, each of them above in this table
    "base": set(),
    "data": {"base"},
    "views": {"base", "data"},
    "models": {"base"},
    "losses": {"base"},
    "methods": {"base", "losses"},
    "runs": {"base"},
    "training": {"base", "data", "views", "models", "losses", "methods", "runs"},
    "evaluation": {"base", "data"},
    "analysis": {"base", "data", "views", "models", "losses", "runs", "training", "evaluation"},
    "exchange": {"base", "data", "views", "models", "runs", "training"},
    "cost": {"base", "data", "views", "models", "runs", "training"},
    "report": {"base", "evaluation", "cost"},
}
WITHOUT_TORCH = ("data", "evaluation", "report")
SHORT, LONG = 60, 310  # lines
ALONE = {  # short, and imported by one other: why it stands alone
    "training/sam.py": "SAM is looked for by its name",
    "analysis/tsne.py": "a part of the stage that another kind of features could use, tested without files",
}


@cache
def imported(path: Path) -> frozenset[str]:
    """Dotted names of this library's modules that a file imports anywhere: in functions and under TYPE_CHECKING too,
    since a type that is named is a type that is known."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: absolute imports only"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in inner if file_of(name).is_file()}
            found |= modules | ({node.module} if len(modules) < len(inner) else set())
    return frozenset(name for name in found if name.startswith("longtail."))


def file_of(module: str) -> Path:
    return ROOT / f"{module.replace('.', '/')}.py"


def modules(folder: str = "") -> list[Path]:
    return sorted(p for p in (LIBRARY / folder).rglob("*.py") if p.name not in ("__init__.py", "__main__.py"))


def test_folders_stand_in_one_order():
    assert set(MAY_IMPORT) == {p.name for p in LIBRARY.iterdir() if (p / "__init__.py").is_file()}
    for number, (folder, below) in enumerate(MAY_IMPORT.items()):
        assert below <= set(list(MAY_IMPORT)[:number]), folder


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_a_folder_imports_only_what_is_below_it(folder):
    allowed = MAY_IMPORT[folder] | {folder}
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in (LIBRARY / folder).rglob("*.py")
        for name in imported(path)
        if name.split(".")[1] not in allowed
    ]
    assert wrong == []


def test_no_two_modules_import_each_other():
    """However long the way round; what a function imports when it is called is left out, as Python allows it."""
    below = defaultdict(set)
    for path in modules():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ImportFrom):
                names = {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
                below[path] |= {file_of(name) for name in names if file_of(name).is_file() and "longtail" in name}
    done: set[Path] = set()

    def visit(path: Path, way: tuple[Path, ...]) -> None:
        assert path not in way, [str(p.relative_to(LIBRARY)) for p in (*way[way.index(path) :], path)]
        if path not in done:
            for other in below[path]:
                visit(other, (*way, path))
            done.add(path)

    for path in modules():
        visit(path, ())


def test_data_evaluation_and_report_load_no_torch():
    """Every module of theirs, in one process."""
    names = [
        str(path.relative_to(ROOT).with_suffix("")).replace("/", ".")
        for folder in WITHOUT_TORCH
        for path in modules(folder)
    ]
    look = "importlib.import_module(name)\n  assert 'torch' not in sys.modules, name"
    code = f"import importlib, sys\nfor name in {names}:\n  {look}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr.splitlines()[-1]


def test_no_module_is_cut_too_fine_or_too_long():
    """A short one that a single other imports joins it; methods, which are found by name, apart."""
    users = defaultdict(set)
    for path in [*modules(), *(ROOT / "stages").glob("*.py")]:
        for name in imported(path):
            users[file_of(name)].add(path)
    lines = {path: len(path.read_text().splitlines()) for path in modules()}
    names = {path: str(path.relative_to(LIBRARY)) for path in lines}
    fine = {names[p] for p, n in lines.items() if n < SHORT and len(users[p]) < 2 and p.parent.name != "methods"}
    assert fine == set(ALONE)
    assert [names[p] for p, n in lines.items() if n > LONG] == []


def picture() -> str:
    """The folders with the sentence of their __init__.py, as README shows them."""
    lines = []
    order = list(MAY_IMPORT)
    folders = [path.parent.relative_to(LIBRARY).parts for path in LIBRARY.rglob("*/__init__.py")]
    for parts in sorted(folders, key=lambda parts: (order.index(parts[0]), parts)):
        path = LIBRARY.joinpath(*parts, "__init__.py")
        name = "  " * len(parts) + parts[-1] + "/"
        lines.append(f"{name:<16}{ast.get_docstring(ast.parse(path.read_text())).splitlines()[0]}")
    return "\n".join(lines)


def test_readme_shows_the_tree():
    shown = picture()
    assert shown in (ROOT / "README.md").read_text(), f"README.md: the folders of longtail/ are now\n{shown}"
