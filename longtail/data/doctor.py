"""What is wrong with a dataset on disk, and why, as far as the folders tell (METHODS 1.3 to 1.5).

A check gives findings, one line each. Of images that are not where the lists say, the first few are named and the
likely cause is looked for: it is nearly always the same for all of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from longtail.base.errors import UserError
from longtail.base.workers import in_order
from longtail.data.config import DatasetConfig, FilesConfig
from longtail.data.file_images import read_rgb
from longtail.data.file_lists import SPLITS, list_findings
from longtail.data.layout_causes import likely_cause
from longtail.data.list_formats import Listing, read_list
from longtail.data.list_sources import group_findings

CHUNK = 100  # images a worker reads before it answers
NAMED = 3
INAT_CLASSES = {5089: 2017, 8142: 2018}  # METHODS 1.4


@dataclass(frozen=True)
class SplitReport:
    """One row of the summary."""

    split: str
    images: int
    classes: int
    missing: int
    unreadable: int
    content: str  # sha256 over the bytes of all images in the list's order; empty unless asked for


def read_lists(
    config: DatasetConfig, others: dict[str, FilesConfig]
) -> tuple[dict[str, Listing], list[str], list[str]]:
    """The splits whose lists can be read, findings, and notes of what is left out. others: what other entries expect,
    to tell a list that is another dataset's."""
    listings, found, notes = {}, [], []
    for split in SPLITS:
        if getattr(config.files, split) is None:
            continue
        try:
            listings[split] = read_list(Path(config.raw) / getattr(config.files, split), config.source)
        except UserError as error:
            found.append(str(error))
    if "train" in listings:
        of_lists = list_findings(config.files, listings)
        found += [f"{Path(config.raw) / line}" for line in of_lists]
        if "test" in listings and not any("label" in line or "classes" in line for line in of_lists):
            wrong, notes = group_findings(config, listings["train"], listings["test"])
            found += wrong
    for split, listing in listings.items():
        if cause := _other_list(config.files, split, listing, others):
            found.append(f"{Path(config.raw) / getattr(config.files, split)}: {cause}")
    return listings, found, [*(note for listing in listings.values() for note in listing.notes), *notes]


def _other_list(config: FilesConfig, split: str, listing: Listing, others: dict[str, FilesConfig]) -> str:
    """Which list it looks like, where it has not the number of images that is expected."""
    wanted, images = getattr(config, f"{split}_images"), len(listing.files)
    if wanted in (None, images):
        return ""
    classes = int(listing.labels.max()) + 1
    if classes in INAT_CLASSES and classes != config.classes:
        return f"looks like iNaturalist {INAT_CLASSES[classes]}"
    for name, other in {"this entry": config, **others}.items():
        for part in SPLITS:
            if getattr(other, f"{part}_images") == images:
                return f"looks like the {part} list of {name}"
    return ""


def check_images(
    root: Path, split: str, listing: Listing, hashed: bool, jobs: int, told: Callable[[int], None] = lambda done: None
) -> tuple[SplitReport, list[str]]:
    """Decode every image of a split by `jobs` processes; with hashed, also a checksum of all bytes. told: called with
    the number of images done."""
    parts = [listing.files[start : start + CHUNK] for start in range(0, len(listing.files), CHUNK)]
    missing, damaged, sha, done = [], [], hashlib.sha256(), 0
    for answer in in_order(partial(_examine, root, hashed), parts, jobs):
        for file, problem, content in answer:
            sha.update(content)
            if problem:
                (missing if problem == "missing" else damaged).append((file, problem))
        done += len(answer)
        told(done)
    found = []
    if missing:
        named = ", ".join(file for file, _ in missing[:NAMED])
        cause = likely_cause(root, [file for file, _ in missing], len(listing.files))
        found.append(f"{root}: {len(missing)} of {len(listing.files)} {split} images missing: {named}; {cause}")
    if damaged:
        named = "; ".join(problem for _, problem in damaged[:NAMED])
        more = f" and {len(damaged) - NAMED} more" if len(damaged) > NAMED else ""
        found.append(f"{len(damaged)} of {len(listing.files)} {split} images unreadable: {named}{more}")
    classes = len(np.unique(listing.labels))
    content = sha.hexdigest() if hashed else ""
    return SplitReport(split, len(listing.files), classes, len(missing), len(damaged), content), found


def _examine(root: Path, hashed: bool, files: np.ndarray) -> list[tuple[str, str, bytes]]:
    """Path, what is wrong (nothing, `missing`, or a line) and sha256 of the bytes, of each image."""
    return list(_answers(root, hashed, files))


def _answers(root: Path, hashed: bool, files: np.ndarray) -> Iterator[tuple[str, str, bytes]]:
    for file in (name.decode() for name in files.tolist()):
        path, problem, content = root / file, "", b""
        if not path.is_file():
            yield file, "missing", content
            continue
        try:
            read_rgb(path)
        except UserError as error:
            problem = str(error)
        if hashed:
            content = hashlib.sha256(path.read_bytes()).digest()
        yield file, problem, content
