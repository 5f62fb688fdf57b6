"""Values of YAML or JSON as the dataclasses or typed dicts that describe them, by pydantic; every fault in one line.

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

from longtail.base.errors import UserError, nearest

T = TypeVar("T")
UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")
BLOCK, LIST = "a block of keys", "a list"
KINDS = {  # what was to stand there, by the kind of pydantic's error
    **{"float_type": "float", "int_type": "int", "string_type": "str", "bool_type": "bool", "none_required": "null"},
    **{"tuple_type": LIST, "list_type": LIST, "dict_type": BLOCK, "dataclass_type": BLOCK},
    **{"finite_number": "a finite number"},
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


def read(cls: type[T], text: str | bytes, where: str = "") -> T:
    """A dataclass or a typed dict from JSON text. Raises UserError as `build` does."""
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
    limits: dict[str, Any]
    hint: Any  # the type that was to stand there
    block: Any  # and that of the block or list around it
    choice: tuple[str | int, ...] | None  # path of the union that it comes from
    member: str | int | None  # and which of its members it is of

    @property
    def wanted(self) -> str | None:
        """What was to stand there; None where a bound or a form is not kept."""
        if self.kind != "literal_error":
            return KINDS.get(self.kind)
        return f"{'one of ' if len(self.options) > 1 else ''}{', '.join(map(str, self.options))}"

    @property
    def options(self) -> tuple[Any, ...]:
        return typing.get_args(self.hint) if typing.get_origin(self.hint) is typing.Literal else ()


def _fault(cls: type, error: Any) -> _Fault:
    """Follows an error's place through the types: pydantic puts the names of a union's members between the keys."""
    path: list[str | int] = []
    hint, block, choice, member = cls, None, None, None
    for step in error["loc"]:
        members = _members(hint)
        if len(members) > 1:
            choice, member = tuple(path), step
            hint = next((of for of in members if str(step).lower().startswith(_name(of).lower())), None)
        elif step != "[key]":
            path.append(step)
            block = members[0] if members else None
            hint = _inner(block, step)
    kind, text = error["type"], error["msg"].replace("Input should be", "expected")
    limits = error.get("ctx", {})
    if kind == "value_error":
        text = str(limits["error"])
    elif kind == "missing" and isinstance(path[-1], int):  # a tuple that is too short
        kind, hint = "too_short", block
        path.pop()
    members = _members(hint)
    return _Fault(
        tuple(path), kind, error["input"], text, limits, members[0] if members else None, block, choice, member
    )


def _members(hint: Any) -> tuple[Any, ...]:
    """A union's members without null; of another type, itself."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return tuple(of for of in typing.get_args(hint) if of is not type(None))
    return () if hint is None else (hint,)


def _name(hint: Any) -> str:
    return getattr(typing.get_origin(hint) or hint, "__name__", "")


def _keys(hint: Any) -> list[str]:
    """The keys of a dataclass or a typed dict; of any other type none."""
    if dataclasses.is_dataclass(hint):
        return [field.name for field in dataclasses.fields(hint)]
    return list(hint.__annotations__) if hasattr(hint, "__required_keys__") else []


def _inner(hint: Any, key: str | int) -> Any:
    """The type that stands at a key of a dataclass, typed dict, list, tuple or dict; None where there is none."""
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if _keys(hint):
        return typing.get_type_hints(hint).get(key)
    if origin is tuple and Ellipsis not in options and isinstance(key, int):
        return options[key] if key < len(options) else None
    return {tuple: options[:1], list: options[:1], dict: options[1:]}.get(origin, (None,))[0]


def _told(cls: type, errors: list, where: str) -> str:
    """The first fault; of a union's, that of the member that went furthest, or what all of them want."""
    faults = [_fault(cls, error) for error in errors]
    first = next((fault for fault in faults if fault.kind in UNKNOWN), faults[0])  # before the key that it was to be
    same = [fault for fault in faults if first.choice is not None and fault.choice == first.choice] or [first]
    kinds = [fault for fault in same if fault.kind == "literal_error" and fault.path[-1:] == ("kind",)]
    others = {fault.member for fault in kinds}  # a block's `kind` says which member is meant
    same = [fault for fault in same if fault.member not in others] or kinds or same
    deepest = max(same, key=lambda fault: (len(fault.path), fault.kind in UNKNOWN))
    path = where + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in deepest.path)
    return f"{path.lstrip('.')}: {_wrong([fault for fault in same if fault.path == deepest.path])}"


def _wrong(same: list[_Fault]) -> str:
    """What is wrong at a place, and what would be right. same: a fault, or one for each member of a union."""
    fault, value = same[0], same[0].value
    if fault.kind == "value_error":
        return fault.text
    if fault.kind in UNKNOWN:
        return f"unknown key{nearest(str(fault.path[-1]), _keys(fault.block))}"
    if fault.kind == "missing":
        return f"missing; {_name(fault.block)} needs it"
    if fault.kind in ("too_short", "too_long"):
        least, most = (fault.limits.get(f"{end}_length") for end in ("min", "max"))
        bound = f"at most {most}" if least is None else f"at least {least}"
        fixed = len(typing.get_args(fault.hint)) if typing.get_origin(fault.hint) is tuple else bound
        return f"expected {fixed} values, found {len(value)}"
    if fault.kind == "literal_error" and len(same) == 1:
        close = nearest(value, fault.options) if isinstance(value, str) else ""
        return f"{value!r} is not {fault.wanted}{close if close.startswith('; did') else ''}"
    wanted = list(dict.fromkeys(of.wanted for of in same))
    if None in wanted:  # pydantic's words
        return f"{fault.text[:1].lower()}{fault.text[1:]}, found {value!r:.60}"
    kind = "" if set(wanted) <= {BLOCK, LIST} else f" ({type(value).__name__})"
    return f"expected {' or '.join(wanted)}, found {value!r:.60}{kind}{_number(wanted, value)}"


def _number(wanted: list[str], value: Any) -> str:
    """What to write where a number stands in quotes, or a whole one has a dot."""
    try:
        number = float(value) if isinstance(value, str) or type(value) is float else math.nan
    except ValueError:
        return ""
    if "float" in wanted and math.isfinite(number):
        return f"; write {number}"
    return f"; write {int(number)}" if "int" in wanted and number.is_integer() else ""
