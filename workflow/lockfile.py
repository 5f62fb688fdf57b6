"""dvc.lock outlives a kill: `python -m workflow.lockfile`, before and after what may write one.

DVC writes dvc.lock in place, so a kill in those moments leaves a part of it. A copy of the last whole one is kept
beside it; where dvc.lock is found torn, also if what is left still parses, the copy takes its place, one line says so,
and the torn one is kept as dvc.lock.torn. What the copy does not know of runs again: finished runs say `already there`.
DVC's cache is looked at as well: a file of it that changed since is the very file that lies in the workspace (a hard
link), damaged, and DVC trusts it as long as nobody may write it. So the right to write is given: DVC then looks, drops
it, and makes it again. A torn .dvc/tmp/rwlock, where DVC notes which processes are at work, would stop DVC for good: it
is taken away. Nothing is done while DVC is at work in the repository.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from longtail.base import params, yaml_file
from longtail.base.errors import UserError, run_main
from longtail.base.files import atomic_write
from longtail.cost.upstream import Stage, stages

LOCK, KEPT, TORN = "dvc.lock", ".dvc.lock.whole", "dvc.lock.torn"
AT_WORK = ".dvc/tmp/rwlock"  # DVC's; another lock, rwlock.lock, is held by whoever writes it
CACHE, LOOKED = ".dvc/cache/files/md5", ".dvc/tmp/looked"  # DVC's; when its cache was looked at last
TRUSTED = 0o444  # mode of a file in the cache that DVC does not look at again


def keep(root: Path = Path(), *, mend: bool = True) -> None:
    """Look at the dvc.lock of every folder: put a torn one right, copy a whole one. mend: False writes nothing and
    raises UserError for a torn one. Raises UserError also where there is nothing to put in a torn one's place."""
    with _held(root / ".dvc/tmp/lock") as rests:
        if not rests:
            return
        for name in (*params.files(root), "workflow/dvc.yaml"):
            _look((root / name).with_name(LOCK), mend)
        if mend:
            _look_at_cache(root)
            _look_at_rwlock(root / AT_WORK)


def _look(path: Path, mend: bool) -> None:
    kept = path.with_name(KEPT)
    if not path.exists():
        return
    data, whole = path.read_bytes(), kept.read_bytes() if kept.exists() else None
    if data == whole:
        return
    if b"\n<<<<<<< " in data or data.startswith(b"<<<<<<< "):
        return  # a merge of git's that is not done; DVC says so itself
    fault = torn(path, data, whole)
    if fault is None:
        if mend:
            atomic_write(kept, lambda temporary: temporary.write_bytes(data))
        return
    if not mend:
        raise UserError(f"{path}: {fault}; `python -m workflow.lockfile` puts the last whole one back")
    found = whole if whole is not None else _of_git(path, "HEAD")
    if found is None:
        raise UserError(f"{path}: {fault}, and there is no whole one; remove it: stages run again, finished runs stay")
    atomic_write(path.with_name(TORN), lambda temporary: temporary.write_bytes(data))
    atomic_write(path, lambda temporary: temporary.write_bytes(found))
    of = "the last whole one" if whole is not None else "git's last one"
    print(f"{path}: {fault}; {of} is put back, the torn one is {TORN}", file=sys.stderr, flush=True)


def _look_at_cache(root: Path) -> None:
    """Take DVC's trust from every file of its cache that is not what its name says, of those that changed lately."""
    looked, began = root / LOOKED, time.time_ns()
    since = looked.stat().st_mtime_ns if looked.exists() else 0
    for path in (root / CACHE).glob("??/*"):
        found = path.lstat()
        changed = stat.S_ISREG(found.st_mode) and found.st_mtime_ns >= since
        if not changed or stat.S_IMODE(found.st_mode) != TRUSTED:
            continue
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "md5").hexdigest()
        if digest != path.parent.name + path.name.removesuffix(".dir"):
            path.chmod(0o644)
            print(f"{path}: damaged, and so is the file of it that stages made; DVC makes it again", file=sys.stderr)
    looked.touch()
    os.utime(looked, ns=(began, began - 2 * 10**9))  # clocks of file systems are coarse


def _look_at_rwlock(path: Path) -> None:
    """Take the file away where a kill left a part of it: DVC does not start again with it, nor say what to do."""
    if not path.exists():
        return
    with _held(path.with_name(f"{path.name}.lock")) as mine:
        if not mine:
            return
        try:
            json.loads(path.read_bytes())
        except ValueError:
            path.unlink()
            print(f"{path}: cut short by a kill; removed, DVC begins it anew", file=sys.stderr, flush=True)


def torn(path: Path, data: bytes, whole: bytes | None) -> str | None:
    """What shows that a dvc.lock was not written to its end, in a few words; None where nothing does."""
    found = _stages(path, data)
    if found is None or not data.endswith(b"\n"):
        return "cut short"
    incomplete = [name for name, entry in found.items() if not _complete(entry)]
    if incomplete:
        return f"cut short in {incomplete[0]}"
    committed = _of_git(path, "HEAD")
    if data in (_of_git(path, ""), committed):
        return None  # git put it there
    known, wanted = _stages(path, whole or committed or b"") or {}, _wanted(path)
    names, before = list(found), list(known)
    last = names[-1] if names else None
    if last in wanted and len(found[last].get("outs", ())) < len(wanted[last].outs):
        return f"cut short in {last}"
    if names != before[: len(names)]:
        return None
    lost = [name for name in before[len(names) :] if name in wanted]
    return f"cut short, {lost[0]} and all after it are not there" if lost else None


def _wanted(path: Path) -> dict[str, Stage]:
    """The stages of the folder's dvc.yaml; none where it is none of ours."""
    try:
        return stages(path.with_name("dvc.yaml"), yaml_file.mapping(path.with_name("params.yaml")))
    except UserError:
        return {}


def _stages(path: Path, data: bytes) -> dict | None:
    """{stage: entry} in the file's order; None where it is none of DVC's."""
    try:
        content = yaml_file.parse(data.decode("utf-8"), path)
    except (UserError, UnicodeDecodeError):
        return None
    if not isinstance(content, dict) or content.get("schema") != "2.0":
        return None
    found = content.get("stages", {} if "datasets" in content else None)
    return found if isinstance(found, dict) else None


def _complete(entry: object) -> bool:
    """Has an entry what DVC writes last in each of its parts?"""
    if not isinstance(entry, dict) or not isinstance(entry.get("cmd"), str | list):
        return False
    files = [file for part in ("deps", "outs") for file in entry.get(part, ())] if _lists(entry) else [None]
    return all(isinstance(file, dict) and _whole_file(file) for file in files)


def _whole_file(file: dict) -> bool:
    folder = str(file.get("md5")).endswith(".dir")
    return {"path", "md5", "size", *(("nfiles",) if folder else ())} <= set(file)


def _lists(entry: dict) -> bool:
    return all(isinstance(entry.get(part, []), list) for part in ("deps", "outs"))


def _of_git(path: Path, revision: str) -> bytes | None:
    """The file in a commit, or in git's index; None without git or where git does not have it."""
    command = ["git", "show", f"{revision}:./{path.name}"]
    try:
        done = subprocess.run(command, cwd=path.parent, capture_output=True)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None


@contextmanager
def _held(path: Path) -> Iterator[bool]:
    """Hold a lock of DVC's in the block, so that it writes nothing; False where DVC has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError:  # a file system without locks: DVC has another way there
            pass
        yield True


if __name__ == "__main__":
    run_main(keep)
