"""Why images are not where a list says: the mistakes that are made with these archives, recognised by the folders."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

SYNSET = re.compile(r"n\d{8}")
ARCHIVES = (".tar", ".tgz", ".tar.gz", ".zip")
SHOWN = 6


def likely_cause(root: Path, missing: list[str], listed: int) -> str:
    """One clause about the first missing path. listed: how many images the list names."""
    if not root.is_dir():
        return f"no folder {root}: link it or set files.images"
    if "\\" in missing[0]:
        return _windows(root, missing[0])
    path = PurePosixPath(missing[0])
    try:
        for cause in CAUSES:
            if said := cause(root, path):
                return said
    except OSError as error:  # a folder that may not be read
        return f"the cause was looked for in vain ({error})"
    there, holds = listed - len(missing), _holds(root / _deepest(root, path))
    if not there:
        return f"none is there; {holds}"
    return f"{there} others are there: unpacked or copied in part, or another edition; {holds}"


def _windows(root: Path, path: str) -> str:
    """Paths as Windows writes them."""
    drive = re.match(r"[A-Za-z]:[\\/]", path)
    cure = f"the list has \\ where / is needed: replace it in the list, e.g. {path.replace(chr(92), '/')}"
    return f"paths of the drive {drive[0][:2]}, {cure}, and leave out what leads to {root}" if drive else cure


def _blanks(root: Path, path: PurePosixPath) -> str:
    """A blank that a spreadsheet or an editor left before or after a path."""
    stripped = str(path).strip()
    there = stripped != str(path) and (root / stripped).is_file()
    return "the list has a blank before or after the path: take it out" if there else ""


def _broken_link(root: Path, path: PurePosixPath) -> str:
    """It is there, and leads nowhere: a link to another machine's disk, or git-annex's to content not fetched."""
    for part in (root / path, *(root / parent for parent in path.parents)):
        if part.is_symlink() and not part.exists():
            target = os.readlink(part)
            cure = "run git annex get" if ".git/annex" in target else "mount what it leads to, or link it anew"
            return f"{part} is a link to {target}, which is not there: {cure}"
    return ""


def _other_unicode(root: Path, path: PurePosixPath) -> str:
    """The same name in another Unicode form (macOS and its archives write NFD), or in bytes that are not UTF-8."""
    for folder, part in _first_absent(root, path):
        for name in os.listdir(folder):
            if name != part and unicodedata.normalize("NFC", name) == unicodedata.normalize("NFC", part):
                forms = [_form(text) for text in (name, part)]
                cure = f"convmv -f utf-8 -t utf-8 --{forms[1].lower()} -r --notest {root}"
                return f"the same names in another Unicode form ({forms[0]} on disk, {forms[1]} in the list): {cure}"
            if name != part and os.fsencode(name).decode("latin-1") == unicodedata.normalize("NFC", part):
                cure = f"convmv -f latin1 -t utf-8 -r --notest {root}"
                return f"the names on disk are in Latin-1, not in UTF-8: {cure}"
    return ""


def _form(text: str) -> str:
    return next((form for form in ("NFC", "NFD") if unicodedata.is_normalized(form, text)), "mixed")


def _first_absent(root: Path, path: PurePosixPath) -> Iterator[tuple[Path, str]]:
    """The folder that is there, and the part of the path that it does not hold; nothing where all of it is there."""
    folder = root
    for part in path.parts:
        if not (folder / part).exists():
            if folder.is_dir():
                yield folder, part
            return
        folder = folder / part


def _other_root(root: Path, path: PurePosixPath) -> str:
    """files.images is a folder too high or too low."""
    for folder in sorted(p for p in root.iterdir() if p.is_dir()):
        if (folder / path).is_file():
            return f"files.images is one folder too high, they are in {folder}"
    if (root.parent / path).is_file():
        return f"files.images is one folder too low, they are in {root.parent}"
    below = PurePosixPath(*path.parts[1:]) if len(path.parts) > 1 else path
    if below != path and (root / below).is_file():
        return f"files.images holds what the list calls {path.parts[0]}/: set it to the folder above, and name it so"
    return ""


def _flat(root: Path, path: PurePosixPath) -> str:
    """ILSVRC's and Places' validation archives are flat; the lists want class folders."""
    for folder in list(path.parents)[1:]:
        if (root / folder / path.name).is_file():
            return f"{root / folder} is flat: sort its images into class folders, as {path}"
    return ""


def _other_case(root: Path, path: PurePosixPath) -> str:
    """The same name in other case or with another suffix, in the file or in a folder above it."""
    for folder, part in _first_absent(root, path):
        names = sorted(p.name for p in folder.iterdir())
        stem = part.rpartition(".")[0] if part == path.name else part
        same = [n for n in names if n.lower() == part.lower()]
        if part == path.name:
            same += [n for n in names if n.rpartition(".")[0].lower() == stem.lower() and not n.endswith(ARCHIVES)]
        return f"{folder} has {same[0]} where the list has {part}: rename as in the list" if same else ""
    return ""


def _archive(root: Path, path: PurePosixPath) -> str:
    """An archive lies where the images should."""
    if (root / path.parent).is_dir():
        return ""
    for folder in [root / parent for parent in path.parents]:
        if folder.is_dir():
            found = sorted(p.name for p in folder.iterdir() if p.name.endswith(ARCHIVES))
            if found:
                tarred = f"{found[0]} and {len(found) - 1} more" if len(found) > 1 else found[0]
                return f"not unpacked: {folder} has {tarred}"
    return ""


def _other_edition(root: Path, path: PurePosixPath) -> str:
    """ILSVRC of another year: other synsets, or other numbers in the names."""
    synset = next((part for part in path.parts[:-1] if SYNSET.fullmatch(part)), None)
    if synset is None:
        return ""
    above = root.joinpath(*path.parts[: path.parts.index(synset)])
    if not (above / synset).is_dir():
        others = sorted(p.name for p in above.iterdir() if SYNSET.fullmatch(p.name)) if above.is_dir() else []
        if others:
            return f"{above} has {len(others)} synset folders and no {synset}: another ILSVRC edition (2010, not 2012?)"
        return ""
    files = sorted(p.name for p in (above / synset).iterdir())
    years = {found[0] for name in files if (found := re.match(r"ILSVRC\d{4}", name))}
    year = re.match(r"ILSVRC\d{4}", path.name)
    if year and years and year[0] not in years:
        return f"{above / synset} has images of {', '.join(sorted(years))}, the list is of {year[0]}"
    if files and not (above / synset / path.name).exists():
        return f"{above / synset} has {len(files)} other images, e.g. {files[0]}: unpacked in part, or another edition"
    return ""


def _other_places(root: Path, path: PurePosixPath) -> str:
    """Places365's archives `data_256`, `val_256`, `data_large`, ... are laid out by letters; the lists are not."""
    others = sorted(p.name for p in root.iterdir() if re.fullmatch(r"(data|val|test)_(256|large)", p.name))
    if others and not (root / path.parts[0]).is_dir():
        return (
            f"{root} has {', '.join(others)}: the lists want Places365's other archive,"
            f" with a folder a class directly in {path.parts[0]}/"
        )
    return ""


def _other_top(root: Path, path: PurePosixPath) -> str:
    """The first folder of the path is not there at all."""
    if (root / path.parts[0]).exists() or len(path.parts) == 1:
        return ""
    return f"no {path.parts[0]}/ in {root}, which {_holds(root).partition(' ')[2]}: another archive or edition?"


def _deepest(root: Path, path: PurePosixPath) -> PurePosixPath:
    """The longest part of the path's folders that is there."""
    return next(parent for parent in path.parents if (root / parent).is_dir())


def _holds(folder: Path) -> str:
    names = sorted(p.name for p in folder.iterdir())
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{folder} holds {', '.join(names[:SHOWN]) or 'nothing'}{more}"


NAMES = (_blanks, _broken_link, _other_unicode)  # what names the disk has, or the list
CAUSES = (*NAMES, _other_root, _flat, _other_case, _archive, _other_edition, _other_places, _other_top)
