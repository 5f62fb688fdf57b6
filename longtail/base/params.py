"""params.yaml, and the hand-written YAML files of docs/, to frozen dataclasses, strictly.

The root's params.yaml holds the embedded studies, papers/<paper>/params.yaml a paper's; `place` in each says which file
holds the sections that papers share. `load(None)` reads them all as one: names are unique over all files.
Unknown, missing and mistyped keys stop at the start with the key's path and the nearest valid name (base/typed.py).
An entry refers to other sections by name, one level deep: the stage reads its entry by name, and no number comes from
the command line.

A hand-written YAML file of docs/ as a dataclass: the map of the paper's items, the claims, the judgements.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from pathlib import Path
from typing import Any, TypeVar

from longtail.base import yaml_file
from longtail.base.errors import UserError, nearest
from longtail.base.typed import build

__all__ = ["build", "digest", "entry", "later", "load", "merge", "plain"]
_RUNS = ("teachers", "caches", "methods", "recipes", "pretrainings", "experiments")
_ANALYSED = ("virtual_examples", "compare_features", "compare_predictions")
SECTIONS = ("studies", "overviews", "datasets", "views", *_RUNS, *_ANALYSED)
FOR_DVC = ("place", "raw")  # what only dvc.yaml and the stage `raw` read: where files stand; {name: folder of raw data}
SHARED = ("methods", "datasets")  # sections that may stand in another file, which `place` names from the root


def load(path: str | Path | None) -> dict[str, Any]:
    """The sections of a params file, with those that it shares; None: of all files of the repository in this folder.

    Raises UserError where a file is missing, no YAML, or has an unknown section, or where a name stands in two files.
    """
    if path is None:
        return load_all(Path())
    path = Path(path)
    sections = own(path)
    place = sections.pop("place", None) or {}
    for section in SHARED:
        other = path.parent / place.get("root", ".") / place.get(section, path.name)
        if section in place and other.resolve() != path.resolve():
            sections[section] = (sections.get(section) or {}) | (own(other).get(section) or {})
    return sections


def files(root: Path) -> dict[str, Path]:
    """{name: params file}: the root's, then the papers' in the order of their names."""
    found = [root / "params.yaml", *sorted(root.glob("papers/*/params.yaml"))]
    return {path.relative_to(root).as_posix(): path for path in found}


def load_all(root: Path) -> dict[str, Any]:
    """The sections of all params files under a repository's root, as one. Raises UserError for a name in two files.

    `place` says what DVC wants before the stages of studies and overviews that are not the root's: {name: file}.
    """
    together: dict[str, Any] = {section: {} for section in SECTIONS + FOR_DVC}
    owner: dict[tuple[str, str], str] = {}
    for file, path in files(root).items():
        for section, entries in own(path).items():
            if section == "place":
                continue
            for name, values in (entries or {}).items():
                if (section, name) in owner:
                    first = owner[section, name]
                    raise UserError(f"{section}.{name}: stands in {first} and in {file}; rename one, or keep one")
                owner[section, name] = file
                together[section][name] = values
                if section in ("studies", "overviews") and path.parent != root:
                    together["place"][name] = f"{Path(file).parent.as_posix()}/dvc.yaml:"
    return together


def own(path: Path) -> dict[str, Any]:
    """The sections of one file, `place` among them, as they stand there. Raises UserError as `load`."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; run from the repository root or pass --params")
    params = yaml_file.read(path)
    if not isinstance(params, dict):
        raise UserError(f"{path}: expected sections ({', '.join(SECTIONS)}), found {type(params).__name__}")
    for section in params:
        if section not in SECTIONS + FOR_DVC:
            raise UserError(f"{path}: unknown section '{section}'{nearest(str(section), SECTIONS)}")
        if not isinstance(params[section] or {}, dict):
            raise UserError(f"{path}: {section}: expected a block of entries, found {type(params[section]).__name__}")
        if section != "place":
            for name in params[section] or {}:
                _check_name(name, f"{path}: {section}")
    return params


NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")  # fit for a path, a target of DVC and a word of a command


def _check_name(name: Any, where: str) -> None:
    """Raises UserError for the name of an entry that tools would take for something else."""
    if not isinstance(name, str):
        better = re.sub(r"[^A-Za-z0-9_-]", "_", f"e{name}")
        kind = type(name).__name__
        raise UserError(f"{where}: the name {name} is a {kind}, not a text; begin it with a letter: {better}")
    if not NAME.fullmatch(name):
        rule = "letters without accents, digits, _ and -, the first no digit and no -"
        raise UserError(f"{where}: {name!r} cannot be a target of DVC and a word of a command; in names use {rule}")


def entry(params: dict, section: str, name: str) -> dict[str, Any]:
    """params[section][name]; raises UserError naming the nearest entry."""
    entries = params.get(section) or {}
    if not isinstance(entries, dict):
        raise UserError(f"{section}: expected a block of entries, found {type(entries).__name__}")
    if name not in entries:
        raise UserError(f"{section}.{name}: no such entry in params.yaml{nearest(name, entries)}")
    if not isinstance(entries[name], dict):
        raise UserError(f"{section}.{name}: expected a block of keys, found {entries[name]!r}")
    return entries[name]


def merge(base: dict, override: dict, where: str) -> dict:
    """base with override's values; an override may only name keys that base has."""
    merged = dict(base)
    for key, value in override.items():
        if key not in base:
            raise UserError(f"{where}.{key}: unknown key{nearest(key, base)}")
        both = isinstance(base[key], dict) and isinstance(value, dict)
        merged[key] = merge(base[key], value, f"{where}.{key}") if both else value
    return merged


def later(default: Any) -> Any:
    """A dataclass field that came after results were made: while it has its default, `plain` leaves it out, so that
    they stay the results of their entry."""
    return dataclasses.field(default=default, metadata={"later": True})


def plain(value: Any) -> Any:
    """Dataclasses to dicts, tuples to lists: what YAML and JSON can hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = ((f, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {f.name: plain(found) for f, found in fields if not (f.metadata.get("later") and found == f.default)}
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value


def digest(value: Any) -> str:
    """sha256 (hex) of the canonical JSON of a dataclass, mapping or list."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


T = TypeVar("T")


def read(cls: type[T], path: Path) -> T:
    """The file as `cls`. Raises UserError where it is missing, no YAML, or not of its shape."""
    return build(cls, yaml_file.read(path), str(path))
