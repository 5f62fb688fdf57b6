"""params.yaml, and the hand-written YAML files of docs/, to frozen dataclasses, strictly.

Unknown, missing and mistyped keys stop at the start with the key's path and the nearest valid name. YAML reads `1e-3`
as text (a float needs a dot: `1.0e-3`); that is caught here too. An entry refers to other sections by name, one level
deep: the stage reads its entry by name, and no number comes from the command line.

A hand-written YAML file of docs/ as a dataclass: the map of the paper's items, the claims, the judgements.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml

from longtail.base.errors import UserError, nearest

SECTIONS = ("studies", "overviews", "datasets", "views", "teachers", "caches", "methods", "recipes", "experiments")
T = TypeVar("T")


def load(path: str | Path) -> dict[str, Any]:
    """The whole file. Raises UserError where it is missing, no YAML, or has an unknown section."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; run from the repository root or pass --params")
    try:
        params = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(params, dict):
        raise UserError(f"{path}: expected sections ({', '.join(SECTIONS)}), found {type(params).__name__}")
    for section in params:
        if section not in SECTIONS:
            raise UserError(f"{path}: unknown section '{section}'{nearest(section, SECTIONS)}")
    return params


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


def build(cls: type[T], values: Any, where: str) -> T:
    """A dataclass from a mapping, checked field by field against its annotations."""
    if not isinstance(values, dict):
        raise UserError(f"{where}: expected a block of keys, found {values!r}")
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for key in values:
        if key not in fields:
            raise UserError(f"{where}.{key}: unknown key{nearest(key, fields)}")
    hints = typing.get_type_hints(cls)
    arguments = {}
    for name, field in fields.items():
        if name in values:
            arguments[name] = _check(hints[name], values[name], f"{where}.{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise UserError(f"{where}.{name}: missing; {cls.__name__} needs it")
    try:
        return cls(**arguments)
    except ValueError as error:  # a dataclass's own __post_init__ checks
        raise UserError(f"{where}: {error}") from None


def _check(hint: Any, value: Any, where: str) -> Any:
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in options:
            return None
        kinds = [o for o in options if o is not type(None)]
        listed = [o for o in kinds if (typing.get_origin(o) in (tuple, list)) == isinstance(value, list | tuple)]
        return _check((listed or kinds)[0], value, where)
    if origin is typing.Literal:
        if value not in options:
            raise UserError(f"{where}: {value!r} is not one of {', '.join(map(str, options))}{_hint(value, options)}")
        return value
    if origin in (tuple, list):
        if not isinstance(value, list | tuple):
            raise UserError(f"{where}: expected a list, found {value!r}")
        if origin is tuple and not (len(options) == 2 and options[1] is Ellipsis) and len(options) != len(value):
            raise UserError(f"{where}: expected {len(options)} values, found {len(value)}")
        inner = [options[0]] * len(value) if origin is list or options[-1] is Ellipsis else options
        return origin(_check(o, v, f"{where}[{i}]") for i, (o, v) in enumerate(zip(inner, value, strict=True)))
    if origin is dict:
        if not isinstance(value, dict):
            raise UserError(f"{where}: expected a block of keys, found {value!r}")
        return {k: _check(options[1], v, f"{where}.{k}") for k, v in value.items()}
    if dataclasses.is_dataclass(hint):
        return build(hint, value, where)
    if hint is Any:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if (hint is not bool and isinstance(value, bool)) or not isinstance(value, hint):
        found = f"{value!r} ({type(value).__name__})"
        raise UserError(f"{where}: expected {hint.__name__}, found {found}{_number(hint, value)}")
    return value


def _hint(value: Any, options: tuple) -> str:
    return nearest(value, options) if isinstance(value, str) and nearest(value, options).startswith("; did") else ""


def _number(hint: Any, value: Any) -> str:
    """What to write where a number came as text: in YAML a float has a dot, also before an exponent."""
    if hint not in (int, float) or not isinstance(value, str):
        return ""
    try:
        number = float(value)
    except ValueError:
        return ""
    if not math.isfinite(number) or (hint is int and not number.is_integer()):
        return ""
    mantissa, e, exponent = repr(number).partition("e")
    text = f"{mantissa}{'' if '.' in mantissa else '.0'}{e}{exponent}"
    return f"; YAML reads {value} as text, write {int(number) if hint is int else text}"


def plain(value: Any) -> Any:
    """Dataclasses to dicts, tuples to lists: what YAML and JSON can hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value


def digest(value: Any) -> str:
    """sha256 (hex) of the canonical JSON of a dataclass, mapping or list."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def read(cls: type[T], path: Path) -> T:
    """The file as `cls`. Raises UserError where it is missing, no YAML, or not of its shape."""
    try:
        return build(cls, yaml.safe_load(path.read_text(encoding="utf-8")), str(path))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
