"""Plain values (of YAML or JSON) as the dataclasses that describe them, by pydantic; every fault in one line.

Strict: no unknown key, no text for a number, no true for 1; a whole number is a fine float, a list becomes a tuple, of
a union every member is tried. The first fault is told with its key's path, what is wrong, and what would be right.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from functools import cache
from typing import Any, TypeVar

from longtail.errors import UserError, nearest

T = TypeVar("T")
UNKNOWN = "unexpected_keyword_argument"
BLOCK, LIST = "a block of keys", "a list"
BLOCKS = {BLOCK, LIST}
KINDS = {  # what was to stand there, by the kind of pydantic's error
    **{"float_type": "float", "int_type": "int", "string_type": "str", "bool_type": "bool", "none_required": "null"},
    **{"tuple_type": LIST, "list_type": LIST, "dict_type": BLOCK, "dataclass_type": BLOCK},
}


def build(cls: type[T], values: Any, where: str) -> T:
    """A dataclass from a mapping of plain values. where: what messages call it, e.g. teachers.resnet32.

    Raises UserError for the first fault, with its path; a ValueError of the class's __post_init__ keeps its text.
    """
    try:
        text = json.dumps(_plain(values, where))
    except RecursionError:
        raise UserError(f"{where}: a block that holds itself") from None
    return read(cls, text, where)


def read(cls: type[T], text: str | bytes, where: str) -> T:
    """A dataclass from JSON text. Raises UserError as `build` does."""
    from pydantic import ValidationError  # .1 s, which a process that reads no entry need not pay

    try:
        return _adapter(cls).validate_json(text, strict=True, extra="forbid")
    except ValidationError as error:
        raise UserError(_told(cls, error.errors(include_url=False), where)) from None


@cache
def _adapter(cls: type) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(cls)


def _plain(value: Any, where: str) -> Any:
    """The value, if JSON can hold it. Raises UserError for a date, and for a key that is no text."""
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise UserError(f"{where}: the key {key!r} is no text; write it in quotes")
        return {key: _plain(of, f"{where}.{key}") for key, of in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(of, f"{where}[{i}]") for i, of in enumerate(value)]
    if value is not None and not isinstance(value, str | int | float):
        raise UserError(f"{where}: {value} is a {type(value).__name__}; for a text write it in quotes")
    return value


@dataclasses.dataclass(frozen=True)
class _Fault:
    """One of pydantic's errors, at its place in the values."""

    path: tuple[str | int, ...]
    kind: str
    value: Any
    text: str  # pydantic's own
    hints: tuple[Any, ...]  # types that may stand there
    above: tuple[Any, ...]  # and in the block or list around it
    choice: tuple[str | int, ...] | None  # path of the union that it comes from


def _fault(cls: type, error: Any) -> _Fault:
    """Follows an error's place through the types: pydantic puts the names of a union's members between the keys."""
    path: list[str | int] = []
    hints, above, choice, steps = (cls,), (), None, list(error["loc"])
    while steps:
        if len(hints) > 1:
            choice = tuple(path)
            del steps[0]  # the member's name
        if not steps:
            break
        path.append(steps.pop(0))
        above, hints = hints, tuple(dict.fromkeys(of for hint in hints for of in _inner(hint, path[-1])))
    kind, text = error["type"], error["msg"]
    if kind == "value_error":
        text = str(error["ctx"]["error"])
    if kind == "missing" and isinstance(path[-1], int):  # a tuple that is too short
        kind, hints = "too_short", above
        path.pop()
    return _Fault(tuple(path), kind, error["input"], text, hints, above, choice)


def _inner(hint: Any, key: str | int) -> tuple[Any, ...]:
    """The types that may stand at a key of a dataclass, list, tuple or dict: the members of a union each."""
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        found = typing.get_type_hints(hint).get(key)
    elif origin is tuple and Ellipsis not in options and isinstance(key, int):
        found = options[key] if key < len(options) else None
    else:
        found = {tuple: options[:1], list: options[:1], dict: options[1:]}.get(origin, (None,))[0]
    if typing.get_origin(found) in (types.UnionType, typing.Union):
        return tuple(of for of in typing.get_args(found) if of is not type(None))
    return () if found is None else (found,)


def _told(cls: type, errors: list, where: str) -> str:
    faults = [_fault(cls, error) for error in errors]
    first = min(faults, key=lambda fault: fault.kind != UNKNOWN)  # a slip of the pen, before the key it was to be
    same = [fault for fault in faults if first.choice is not None and fault.choice == first.choice] or [first]
    deepest = max(
        same, key=lambda fault: (len(fault.path), fault.kind == UNKNOWN)
    )  # of a union, the member that went furthest
    same = [fault for fault in same if fault.path == deepest.path]
    path = where + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in deepest.path)
    return f"{path}: {_wrong(same)}"


def _wrong(same: list[_Fault]) -> str:
    """What is wrong at a place, and what would be right. same: a fault, or one for each member of a union."""
    fault = same[0]
    classes = [hint for hint in fault.above if dataclasses.is_dataclass(hint)]
    options = [o for hint in fault.hints if typing.get_origin(hint) is typing.Literal for o in typing.get_args(hint)]
    listed = f"one of {', '.join(map(str, options))}"
    kinds = [listed if of.kind == "literal_error" else KINDS.get(of.kind) for of in same]
    if fault.kind == "value_error":
        return fault.text
    if fault.kind == UNKNOWN:
        return (
            f"unknown key{nearest(str(fault.path[-1]), [f.name for cls in classes for f in dataclasses.fields(cls)])}"
        )
    if fault.kind == "missing":
        return f"missing; {classes[0].__name__} needs it"
    if fault.kind in ("too_short", "too_long") and (lengths := [len(typing.get_args(hint)) for hint in fault.hints]):
        return f"expected {lengths[0]} values, found {len(fault.value)}"
    if fault.kind == "literal_error" and len(same) == 1:
        close = nearest(fault.value, options) if isinstance(fault.value, str) else ""
        return f"{fault.value!r} is not {listed}{close if close.startswith('; did') else ''}"
    if None in kinds:  # a bound, a form: pydantic's words
        return f"{fault.text[:1].lower()}{fault.text[1:]}, found {fault.value!r:.60}"
    of_type = "" if set(kinds) <= BLOCKS else f" ({type(fault.value).__name__})"
    return (
        f"expected {' or '.join(dict.fromkeys(kinds))}, found {fault.value!r:.60}{of_type}{_number(kinds, fault.value)}"
    )


def _number(kinds: list, value: Any) -> str:
    """What to write where a number stands in quotes, or a whole one has a dot."""
    try:
        number = float(value) if isinstance(value, str) or type(value) is float else math.nan
    except ValueError:
        return ""
    if "float" in kinds and math.isfinite(number):
        return f"; write {number}"
    return f"; write {int(number)}" if "int" in kinds and number.is_integer() else ""
