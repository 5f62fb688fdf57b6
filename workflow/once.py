"""What DVC does again and again, done once: a params.yaml is parsed once in a process, a dvc.lock once for all; and
where many stages are looked at, their inputs are hashed and their files locked for reading in one go.

`install()` puts the reading in DVC's place. What is read is what DVC reads; anything unusual goes DVC's own way.
"""

from __future__ import annotations

import copy
import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import dvc.dependency.param
import dvc.rwlock
import dvc.utils.strictyaml
from dvc.dependency import Dependency
from dvc.utils.serialize import PARSERS, parse_yaml

from longtail.base.files import write_text

HEADER = "schema: '2.0'\nstages:\n"  # of a dvc.lock
_params: dict[tuple[str, str], object] = {}
_read_param_file = dvc.dependency.param.read_param_file


def params(fs, path: str, key_paths: list[str] | None = None, flatten: bool = False, **options) -> dict:
    """As DVC's read_param_file, which parses the file for every stage and walks through all of it for every name: the
    same text is parsed once, and a name is looked up, part by part."""
    plain = flatten and key_paths and not options and fs.protocol == "local"
    try:
        text = Path(path).read_text("utf-8") if plain else None
    except (OSError, UnicodeDecodeError):
        text = None
    if text is None:
        return _read_param_file(fs, path, key_paths, flatten, **options)  # which says what is wrong
    if (path, text) not in _params:
        _params[path, text] = PARSERS[Path(path).suffix.lower()](text, path)
    found = {}
    for key_path in key_paths:
        value = _params[path, text]
        for part in key_path.split("."):
            if not isinstance(value, dict) or part not in value:  # a pattern, a number, or nothing
                return _read_param_file(fs, path, key_paths, flatten)
            value = value[part]
        found[key_path] = value
    return copy.deepcopy(found)


def lock(text: str, path: str, typ: str = "safe") -> dict:
    """As DVC's parse_yaml, which takes a second for 400 kB. What a dvc.lock said is kept as JSON beside its digest."""
    kept = _kept(path)
    if typ != "safe" or not text.startswith(HEADER) or kept is None:
        return parse_yaml(text, path, typ)
    try:
        content = json.loads(kept.read_text("utf-8"))
        if content["of"] == _digest(text):
            return content["data"]
    except (OSError, ValueError, KeyError, TypeError):
        pass  # never kept, torn or foreign: it is made anew
    data = parse_yaml(text, path)
    remember(text, path, data)
    return data


def remember(text: str, path: str, data: dict) -> None:
    """Keep what the text of the dvc.lock at `path` says, if JSON can hold it."""
    kept = _kept(path)
    if kept is None:
        return
    try:
        content = json.dumps({"of": _digest(text), "data": data})
        if json.loads(content)["data"] == data:
            write_text(kept, content)
    except (OSError, TypeError):
        pass  # a date, say, or a disk that is full: the next one parses


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _kept(path: str) -> Path | None:
    """A file in the .dvc/tmp of the repository that the dvc.lock belongs to; None outside of one."""
    place = Path(path).absolute()
    root = next((folder for folder in place.parents if (folder / ".dvc").is_dir()), None)
    if root is None:
        return None
    return root / ".dvc/tmp/parsed" / f"{place.relative_to(root).as_posix().replace('/', '-')}.json"


def install() -> None:
    """Have DVC read by these, from now on."""
    dvc.dependency.param.read_param_file, dvc.utils.strictyaml.parse_yaml = params, lock


@contextmanager
def read_locked(stages: list) -> Iterator[None]:
    """Files of all stages locked for reading in one go: DVC writes its list of locks twice for every stage it looks at.
    Raises dvc.lock.LockError where another process writes one of them."""
    if not stages:
        yield
        return
    repo, rwlock = stages[0].repo, dvc.rwlock.rwlock
    paths = sorted({item.fs_path for stage in stages for item in (*stage.deps, *stage.outs)})
    hardlink = repo.config["core"].get("hardlink_lock", False)
    with rwlock(repo.tmp_dir, repo.fs, " ".join(sys.argv), paths, [], hardlink):
        dvc.rwlock.rwlock = lambda *_: nullcontext()
        try:
            yield
        finally:
            dvc.rwlock.rwlock = rwlock


@contextmanager
def inputs_hashed() -> Iterator[None]:
    """An input of many stages is looked at once in the block: DVC asks its database, of a folder for each file."""
    get_hash, known = Dependency.get_hash, {}

    def once(self):
        key = self.fs_path, self.hash_name, self.use_cache
        if key not in known:
            known[key] = get_hash(self)
        return known[key]

    Dependency.get_hash = once
    try:
        yield
    finally:
        Dependency.get_hash = get_hash
