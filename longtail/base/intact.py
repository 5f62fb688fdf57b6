"""Is a finished result what was written? The size and sha256 of its files, and who asks.

The record stands beside the result, in <entry>.environment/seed<k>.json under `files`, with the other facts of its
making, so that no hash of DVC's holds it. A result without one was made by an earlier version, or came by `dvc pull`:
it is taken as it is. Size and time of change are looked at first; where a time is another, or the content is read
anyway, so is the sha256. What is damaged is set aside, never deleted: the stage that makes it then makes it again.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from longtail.base.errors import UserError
from longtail.base.files import atomic_write, file_digest

FILES, SUM = "files", "sha256 of the rest"


def environment_of(folder: Path) -> Path:
    """Where the facts of a result's making stand: beside the entry's folder, so that no hash of it holds them."""
    return folder.parent.with_name(f"{folder.parent.name}.environment") / f"{folder.name}.json"


def made(folder: Path) -> dict[str, Any]:
    """How a result was made, as far as that is known here: nothing where the record is damaged itself."""
    try:
        found = json.loads(environment_of(folder).read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict) or found.pop(SUM, None) not in (None, _sum(found)):
        return {}
    return found


def note(folder: Path, facts: dict[str, Any]) -> None:
    """Write how a finished result was made, with the sums of its files as they are now."""
    _write(folder, facts | {FILES: sums(folder)})


def _write(folder: Path, facts: dict[str, Any]) -> None:
    text = json.dumps(facts | {SUM: _sum(facts)}, indent=1, sort_keys=True) + "\n"
    atomic_write(environment_of(folder), lambda temporary: temporary.write_text(text))


def _sum(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def sums(folder: Path) -> dict[str, dict[str, Any]]:
    """{file: its bytes, sha256 and time of change} of all files of a folder."""
    return {path.name: _facts(path) for path in sorted(folder.iterdir()) if path.is_file()}


def _facts(path: Path) -> dict[str, Any]:
    found = path.stat()
    return {"bytes": found.st_size, "sha256": file_digest(path), "changed_ns": found.st_mtime_ns}


def damage(folder: Path, read: tuple[str, ...] = ()) -> str | None:
    """What of a finished result is not as it was written, in a few words; None where all is, or nobody knows.

    read: files whose content is read whatever their times say. Of a file that was only touched or copied the new time
    is noted, so that it is read once.
    """
    facts = made(folder)
    if FILES not in facts or not folder.is_dir():
        return None
    times = {name: was["changed_ns"] for name, was in facts[FILES].items()}
    found = next(filter(None, (_fault(folder / name, was, name in read) for name, was in facts[FILES].items())), None)
    if found is not None:
        return found if environment_of(folder).is_file() else None  # else it is being made anew at this moment
    if times != {name: was["changed_ns"] for name, was in facts[FILES].items()}:
        with suppress(OSError):  # in somebody else's folder they are read again next time
            _write(folder, facts)
    return None


def _fault(path: Path, was: dict[str, Any], read: bool) -> str | None:
    """Of one file; where only its time of change is another, that is put into `was`."""
    if not path.is_file():
        return f"{path.name}: missing"
    now = path.stat()
    if now.st_size != was["bytes"]:
        return f"{path.name}: cut short or damaged, {now.st_size} bytes of {was['bytes']} that were written"
    if (read or now.st_mtime_ns != was["changed_ns"]) and file_digest(path) != was["sha256"]:
        return f"{path.name}: damaged, not what was written (its sha256 is another)"
    was["changed_ns"] = now.st_mtime_ns
    return None


def check(folder: Path, *read: str) -> None:
    """For whoever reads a result. Raises UserError where it is damaged, which sets it aside; read: as of `damage`."""
    if (found := damage(folder, read)) is not None:
        raise damaged(folder, found)


def damaged(folder: Path, what: str) -> UserError:
    """Set a result aside that turned out to be damaged, where it is a seed's folder: what else it may be, nobody moves,
    and of the processes of a team the first alone does. Returns the error to raise, which says what to do."""
    if not folder.name.startswith("seed") or os.environ.get("RANK", "0") != "0":
        return UserError(f"{folder}: {what}; make it again")
    aside = set_aside(folder)
    told = "it is gone" if aside is None else f"set aside as {aside}"
    return UserError(f"{folder}: {what}; {told}; start again, and the stage that made it makes it again")


def set_aside(folder: Path) -> Path | None:
    """Move a damaged result to <entry>.damaged/, with a number; None where it is gone already.

    DVC's cache may hold the same bytes under another name of the same file, which it trusts while nobody may write it.
    So everybody's right to look is kept and the owner's right to write given: DVC then reads its own, and drops it.
    """
    aside = folder.parent.with_name(f"{folder.parent.name}.damaged") / f"{folder.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    aside.parent.mkdir(parents=True, exist_ok=True)
    while aside.exists():
        aside = aside.with_name(f"{aside.name}+")
    try:
        os.rename(folder, aside)
    except FileNotFoundError:
        return None
    for path in (aside, *aside.rglob("*")):
        with suppress(OSError):
            os.chmod(path, stat.S_IMODE(path.stat().st_mode) | stat.S_IWUSR)
    environment_of(folder).unlink(missing_ok=True)
    return aside
