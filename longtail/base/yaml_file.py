"""The one reader of YAML files: YAML 1.2 as DVC reads the same files, and no key twice in a block.

PyYAML parses, but by itself it speaks YAML 1.1: `1e-3` is text, 0123 is 83, `on` is true, `1:30` is 90, and of a key
that stands twice the last wins. Here a scalar means what ruamel.yaml, DVC's reader, takes it for; a test compares them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import yaml

from longtail.base.errors import UserError

TAG = "tag:yaml.org,2002:"
SCALARS = {  # type: a plain scalar of that form, the characters it begins with; as in ruamel.yaml's resolver
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "float": (
        r"[-+]?[0-9][0-9_]*\.[0-9_]*([eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+|[-+]?\.[0-9_]+([eE][-+][0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
    "int": (r"[-+]?0b[0-1_]+|[-+]?0o?[0-7_]+|[-+]?[0-9_]+|[-+]?0x[0-9a-fA-F_]+", "-+0123456789"),
    "merge": (r"<<", "<"),
    "null": (r"~|null|Null|NULL|", ("~", "n", "N", "")),
    "timestamp": (
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}(\.[0-9]*)?"
        r"([ \t]*(Z|[-+][0-9]{1,2}(:[0-9]{2})?))?",
        "0123456789",
    ),
    "value": (r"=", "="),
}
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml in C where PyYAML was built with it
PREFIXES = {"0b": 2, "0o": 8, "0x": 16}


def read(path: str | Path, remedy: str = "") -> Any:
    """A file's content: dicts, lists, texts, numbers, dates, None. remedy: what a reader of the message should do.

    Raises UserError where the file is missing, no UTF-8, no YAML, or has a key twice.
    """
    also = remedy and f"; {remedy}"
    try:
        return parse(Path(path).read_text(encoding="utf-8-sig"), path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file{also}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not valid YAML: byte {error.start} is not UTF-8{also}") from None
    except UserError as error:
        raise UserError(f"{error}{also}") from None


def mapping(path: str | Path, remedy: str = "") -> dict[str, Any]:
    """`read` of a file that is a block of keys, such as a run's config.yaml."""
    found = read(path, remedy)
    if not isinstance(found, dict):
        raise UserError(f"{path}: expected a block of keys, found {type(found).__name__}{remedy and f'; {remedy}'}")
    return found


def parse(text: str, where: str | Path, base: type = LOADER) -> Any:
    """The content of one YAML document. where: what messages call it. Raises UserError as `read` does."""
    try:
        return _loader(base)(text).get_single_data()
    except _TwiceError as error:
        at, first, second = (node.start_mark for node in error.args)
        root = _loader(base)(text).get_single_node()  # anew: construction has put merged blocks into their users
        place = ".".join(next(path for path, node in _blocks(root) if node.start_mark.index == at.index))
        raise UserError(
            f"{where}: line {second.line + 1}, column {second.column + 1}: '{error.args[2].value}' stands twice in "
            f"{place or 'the file'}, first in line {first.line + 1}; keep one"
        ) from None
    except RecursionError:
        raise UserError(f"{where}: not valid YAML: nested too deeply") from None
    except yaml.YAMLError as error:
        mark, told = getattr(error, "problem_mark", None), str(error)
        if mark is not None:
            told = f"line {mark.line + 1}, column {mark.column + 1}: {error.context or ''} {error.problem}"
        raise UserError(f"{where}: not valid YAML: {' '.join(told.split())}") from None


def dump(value: Any, **options: Any) -> str:
    """PyYAML's safe_dump in the order of the keys; texts that YAML 1.1 or 1.2 would take for something else quoted."""
    return yaml.dump(value, Dumper=_Dumper, **{"sort_keys": False, **options})


class _TwiceError(Exception):
    """args: the block, the key's first and its second place (nodes)."""


def _resolvers(known: dict) -> dict:
    """PyYAML's table of plain scalars, {first character: [(tag, form)]}: what is known, then ours."""
    found = {first: list(forms) for first, forms in known.items()}
    for kind, (form, begins) in SCALARS.items():
        for first in begins:
            found.setdefault(first, []).append((TAG + kind, re.compile(rf"^(?:{form})$")))
    return found


class _Reader:
    """Laid over PyYAML's loader: what scalars mean, and the check of a block's own keys before others are merged in."""

    yaml_implicit_resolvers: ClassVar = _resolvers({})

    def construct_document(self, node: yaml.Node) -> Any:
        self.checked: set[int] = set()  # a block that others merge is come to again, with its merged keys among its own
        return super().construct_document(node)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        if id(node) not in self.checked:
            self.checked.add(id(node))
            seen: dict[Hashable, yaml.Node] = {}
            for key, _ in node.value:
                merges = key.tag == TAG + "merge"
                known = key.value if merges or key.tag == TAG + "value" else self.construct_object(key, deep=True)
                if isinstance(known, Hashable):  # what is not is refused later, by PyYAML
                    if (merges, known) in seen:
                        raise _TwiceError(node, seen[merges, known], key)
                    seen[merges, known] = key
        super().flatten_mapping(node)


def _integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node).replace("_", "")
    digits = text.lstrip("+-")
    base = PREFIXES.get(digits[:2], 10)
    return (-1 if text.startswith("-") else 1) * int(digits if base == 10 else digits[2:], base)


def _real(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    return float(re.sub(r"\.(?=inf|nan)", "", loader.construct_scalar(node).replace("_", "").lower()))


def _placed(construct: Callable) -> Callable:
    """A scalar that has the form of a type and no value, such as 2026-13-01, is told with its place."""

    def placed(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Any:
        try:
            return construct(loader, node)
        except (ValueError, KeyError, AttributeError):
            told = f"{node.value!r} is no {node.tag.removeprefix(TAG)}"
            raise yaml.constructor.ConstructorError(None, None, told, node.start_mark) from None

    return placed


@cache
def _loader(base: type) -> type:
    """A loader of the core types alone: no sets, no ordered maps, no bytes."""
    known = {
        "null": base.construct_yaml_null,
        "bool": _placed(base.construct_yaml_bool),
        "int": _placed(_integer),
        "float": _placed(_real),
        "timestamp": _placed(base.construct_yaml_timestamp),
        "str": base.construct_yaml_str,
        "seq": base.construct_yaml_seq,
        "map": base.construct_yaml_map,
    }
    constructors = {TAG + kind: construct for kind, construct in known.items()}
    return type("Loader", (_Reader, base), {"yaml_constructors": constructors | {None: base.construct_undefined}})


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers: ClassVar = _resolvers(yaml.SafeDumper.yaml_implicit_resolvers)


def _blocks(node: yaml.Node, path: tuple[str, ...] = (), above: tuple = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every mapping of the tree with its path."""
    if node in above:
        return
    if isinstance(node, yaml.MappingNode):
        yield path, node
        for key, value in node.value:
            yield from _blocks(value, (*path, str(key.value)), (*above, node))
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            yield from _blocks(value, (*path[:-1], f"{path[-1] if path else ''}[{i}]"), (*above, node))
