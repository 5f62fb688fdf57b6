"""What a script is made of: itself and every file of longtail that it imports, as Python reads them.

Comments, docstrings and lay-out are no part of it. Stages depend on these lists (made by the stage `code`,
workflow/dvc.yaml), not on the text of the files, so an edited comment makes nothing stale and an edited module the
scripts alone that import it. The lists are the same under every version of Python.
"""

from __future__ import annotations

import ast
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from longtail.base.errors import UserError
from longtail.base.files import atomic_write

MADE = Path("data/code")  # out of the stage `code`: a list for each script, and under methods/ for each method
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Module:
    """A module as Python reads it."""

    digest: str  # sha256 (hex) of all but comments, docstrings and lay-out
    imports: frozenset[str]  # dotted names, but for type checkers: `from a import b` gives a and a.b
    relative: int | None  # line of an import that says not from where


@cache
def read(source: bytes) -> Module:
    """Read Python source. Raises SyntaxError, or ValueError for null bytes."""
    parts, imports, relative = [], set(), None

    def add(node: Any, runs: bool) -> None:
        nonlocal relative
        if isinstance(node, list):
            parts.append("[")
            for each in node:
                add(each, runs)
            parts.append("]")
        elif not isinstance(node, ast.AST):
            parts.append(repr(node))
        else:
            kind = type(node)
            if kind is ast.Import and runs:
                imports.update(alias.name for alias in node.names)
            elif kind is ast.ImportFrom and runs:
                imports.update((node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)))
                relative = node.lineno if node.level else relative
            elif kind is ast.If and getattr(node.test, "id", None) == "TYPE_CHECKING":
                runs = False
            elif kind in _DOCUMENTED and ast.get_docstring(node, clean=False) is not None:
                del node.body[0]
            parts.append(kind.__name__)
            for name in node._fields:
                value = getattr(node, name, None)
                if value is not None and value != []:  # versions of Python differ in what they leave empty
                    parts.append(name)
                    add(value, runs)
            parts.append(".")

    add(ast.parse(source), True)
    return Module(hashlib.sha256(" ".join(parts).encode()).hexdigest(), frozenset(imports), relative)


def scripts(root: Path = Path()) -> dict[str, Path]:
    """{name of its list: file from the root} of every stage's script and of every method."""
    found = {path.stem: path for path in sorted((root / "stages").glob("*.py"))}
    methods = sorted((root / "longtail/methods").glob("[!_]*.py"))
    return {n: p.relative_to(root) for n, p in (found | {f"methods/{p.stem}": p for p in methods}).items()}


def made_of(script: Path, root: Path = Path()) -> str:
    """A line `sha256 path` for a script and every file of longtail that it imports, directly or through others, sorted
    by path. Of a package that is imported all files count that are no modules, such as templates. What is imported by
    a name that only running code knows is not found: methods, which have lists of their own.

    Raises UserError, with file and line, for source that Python cannot read and for a relative import.
    """
    found, open_ = {script}, [script]
    while open_:
        new = _needs(open_.pop(), root) - found
        found |= new
        open_ += [path for path in new if path.suffix == ".py"]
    return "".join(f"{_digest(root / path)} {path.as_posix()}\n" for path in sorted(found))


def _digest(path: Path) -> str:
    data = path.read_bytes()
    return read(data).digest if path.suffix == ".py" else hashlib.sha256(data).hexdigest()


def _needs(path: Path, root: Path) -> set[Path]:
    """What a module imports, with the packages that it stands in, whose own files come along."""
    try:
        module = read((root / path).read_bytes())
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise UserError(f"{path}{line}: Python cannot read it ({getattr(error, 'msg', error)})") from error
    if module.relative:
        raise UserError(f"{path}, line {module.relative}: a relative import; write `from longtail.… import …`")
    found = set()
    for name in module.imports:
        parts = name.split(".") if name.partition(".")[0] == "longtail" else []
        for depth in range(1, len(parts) + 1):
            at = Path(*parts[:depth])
            if (root / (package := at / "__init__.py")).is_file():
                found |= {package, *_beside(at, root)}
            elif (root / (file := at.with_suffix(".py"))).is_file():
                found.add(file)
    return found


@cache
def _beside(package: Path, root: Path) -> frozenset[Path]:
    """Files of a package and of its folders without modules, which are no modules."""
    found = set()
    for folder, folders, names in os.walk(root / package):
        here = Path(folder)
        folders[:] = [f for f in folders if f != "__pycache__" and not (here / f / "__init__.py").exists()]
        found |= {(here / n).relative_to(root) for n in names if not n.endswith((".py", ".pyc")) and n[0] != "."}
    return frozenset(found)


def outdated(names: Iterable[str] | None = None, root: Path = Path()) -> dict[str, str]:
    """{name: list as it has to be} where data/code has another list, or none. names: those to look at, else all."""
    known = scripts(root)
    wanted = {name: made_of(known[name], root) for name in (known if names is None else names)}
    return {name: text for name, text in wanted.items() if _read(root / MADE / name) != text}


def lists(paths: Iterable[str]) -> list[str]:
    """The names of the lists among these paths from the root."""
    return [path.removeprefix(f"{MADE}/") for path in paths if path.startswith(f"{MADE}/")]


def refresh(names: Iterable[str]) -> None:
    """Bring these lists up to date."""
    for name, text in outdated(names).items():
        atomic_write(MADE / name, lambda path, text=text: path.write_text(text))


def before_stage(script: str) -> None:
    """Where DVC starts a script whose code was edited since the stage `code` ran, bring its list and those of methods
    up to date: what is recorded is what ran. Looks no further where no file is newer than the list."""
    made = MADE / Path(script).stem
    if "DVC_STAGE" not in os.environ or not made.is_file():
        return
    since = made.stat().st_mtime_ns
    files = (path for folder in ("longtail", "stages") for path in Path(folder).rglob("*.*") if path.suffix != ".pyc")
    if any(path.stat().st_mtime_ns >= since for path in files):
        refresh([made.name, *(name for name in scripts() if name.startswith("methods/"))])


def edited(names: Iterable[str]) -> list[str]:
    """The files whose edit has outdated these lists."""
    lines = {line for name, text in outdated(names).items() for line in {*text.splitlines()} ^ _lines(MADE / name)}
    return sorted({line.partition(" ")[2] for line in lines})


def _lines(path: Path) -> set[str]:
    return {*(_read(path) or "").splitlines()}


def _read(path: Path) -> str | None:
    return path.read_text() if path.is_file() else None
