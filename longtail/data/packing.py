"""Decode the images of a dataset file once, into one file of raw pixels a split (longtail/data/packed_images.py).

Sizes are known from the dataset file, so every image has its place from the start: workers write into one file side by
side, a chunk at a time, and a journal tells which chunks are on the disk. A run that was stopped goes on from there.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from longtail.base.errors import UserError
from longtail.base.files import atomic_write, npz
from longtail.base.workers import in_order
from longtail.data.file_images import FileImages

CHUNK = 256  # images


def pack_split(images: FileImages, split: str, folder: Path, jobs: int) -> str:
    """Write folder/<split>.bin and its index <split>.npz, or check the chunks of those that are there. Returns what was
    done. images: decoded from their files. Raises UserError for a damaged image or pack; chunks already made stay."""
    offsets = np.concatenate([[0], np.cumsum(3 * images.sizes.prod(1))])
    index, values = folder / f"{split}.npz", folder / f"{split}.bin"
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        if index.is_file():
            _check(images, offsets, index, values)
            return f"{len(images)} images, already there, checksums right"
        journal, partial = (folder / f".{split}.{images.digest[:12]}.{kind}" for kind in ("done", "bin"))
        sums, kept = _write_chunks(images, offsets, partial, journal, jobs)
        os.replace(partial, values)
        facts = {"source": np.array(images.digest), "offsets": offsets, "checksums": np.array(sums), "chunk": CHUNK}
        atomic_write(index, lambda path: _save(path, facts))
        journal.unlink()
    size = f"{offsets[-1] / 1e9:.2f} GB"
    return f"{len(images)} images, {size}" + (f", {kept} of {len(sums)} chunks were there" if kept else "")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time; a killed one's workers hold the lock until they are through with an image."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print(f"{folder}: another process is at work on it; waiting", flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write_chunks(
    images: FileImages, offsets: np.ndarray, partial: Path, journal: Path, jobs: int
) -> tuple[list[str], int]:
    """Fill `partial`, telling every chunk in the journal. Returns all checksums, and how many were there before."""

    def write(start: int) -> str:
        rows = range(start, min(start + CHUNK, len(images)))
        data = b"".join(np.ascontiguousarray(images[row]).tobytes() for row in rows)
        with open(partial, "r+b") as file:
            file.seek(int(offsets[start]))
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # before the journal says so
        return hashlib.sha256(data).hexdigest()

    with open(journal, "a+") as done:
        sums = _finished(done) if partial.is_file() else []
        kept = len(sums)
        if not kept:
            _make_room(partial, int(offsets[-1]))
        done.truncate(65 * kept)  # a line that was cut short would spoil the next
        for checksum in in_order(write, range(0, len(images), CHUNK)[kept:], jobs):
            sums.append(checksum)
            done.write(checksum + "\n")
            done.flush()
    return sums, kept


def _finished(journal) -> list[str]:
    """Checksums of the chunks that are on the disk; a last line that was cut short does not count."""
    journal.seek(0)
    return [line[:64] for line in journal if len(line) == 65]


def _make_room(path: Path, size: int) -> None:
    """An empty file of that size. Raises UserError where the disk has no room for it."""
    path.unlink(missing_ok=True)
    if (free := shutil.disk_usage(path.parent).free) < size:
        raise UserError(f"{path.parent}: {size / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free; pack on another disk")
    with open(path, "wb") as file:
        file.truncate(size)


def _save(path: Path, facts: dict) -> None:
    with open(path, "wb") as file:
        np.savez(file, **facts)


def _check(images: FileImages, offsets: np.ndarray, index: Path, values: Path) -> None:
    """Raises UserError unless the finished pack is of these images and whole."""
    with npz(index, "cut short or damaged", f"remove {index.parent} and pack again") as file:
        source, sums, chunk = file["source"].item(), file["checksums"].tolist(), file["chunk"].item()
    if source != images.digest:
        raise UserError(f"{index}: made of other files or sizes; remove {index.parent} and pack again")
    if not values.is_file() or values.stat().st_size != offsets[-1]:
        raise UserError(f"{values}: missing or not of {offsets[-1]} bytes; remove {index.parent} and pack again")
    with open(values, "rb") as file:
        for number, expected in enumerate(sums):
            end = min((number + 1) * chunk, len(images))
            if hashlib.sha256(file.read(int(offsets[end] - offsets[number * chunk]))).hexdigest() != expected:
                where = f"{values}: wrong checksum from image {number * chunk}"
                raise UserError(f"{where}; remove {index.parent} and pack again")
