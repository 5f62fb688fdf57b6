"""Bad image files and class folders."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from tests.stages.bad_inputs.lists import LFS, PAGE
from tests.stages.bad_inputs.rows import RAW, Row, Spoil, block, both, image, picture, renamed


def saved(mode: str, suffix: str) -> bytes:
    """An image of a mode that has no fixed black and white."""
    out = io.BytesIO()
    Image.fromarray(np.ones((6, 6), np.float32 if mode == "F" else np.int32)).save(out, suffix)
    return out.getvalue()


def vast() -> bytes:
    """A PNG whose header says that it has 10^12 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 10**6, 10**6, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


def linked(folder: Path) -> None:
    """An image that is a link to nowhere."""
    (path,) = (folder / "data").glob("*/train/bee/0.png")
    path.unlink()
    path.symlink_to("/media/nowhere/0.png")


def annexed(folder: Path) -> None:
    (path,) = (folder / "data").glob("*/train/bee/0.png")
    path.unlink()
    path.symlink_to("../../../.git/annex/objects/x/0.png")


def loop(folder: Path) -> None:
    os.symlink("..", folder / RAW / "train/ant/again")


def taken(*paths: str) -> Spoil:
    def spoil(folder: Path) -> None:
        for path in paths:
            for file in (folder / RAW / path).iterdir():
                file.unlink()

    return spoil


def added(path: str, data: bytes = b"x") -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / RAW / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / RAW / path).write_bytes(data)

    return spoil


NO_IMAGE = "0.png: not a readable image"
FILES = (  # (kind, name, spoil, said): the same in class folders and in lists
    ("A", "a web page", image(PAGE.encode()), "a web page was saved in its place"),
    ("A", "a pointer", image(LFS.encode()), "a Git LFS pointer, not the file itself: run git lfs pull"),
    ("A", "an annexed pointer", image(b"/annex/objects/SHA256E-s1--0.png\n"), "a git-annex pointer, not the file its"),
    ("A", "an empty file", image(b""), "the file is empty"),
    ("A", "zeros", image(bytes(200)), "it begins with nothing but zeros: copied in part, or a damaged disk"),
    ("A", "macOS's shadow", image(b"\0\5\x16\7" + bytes(40)), "what macOS keeps beside a file (AppleDouble)"),
    ("A", "a drawing", image(b"<svg xmlns='x'/>"), "an SVG drawing, which Pillow does not read: save it as PNG"),
    ("A", "a phone's image", image(b"\0\0\0\x18ftypheic" + bytes(9)), "a HEIC image, which Pillow does not read"),
    ("A", "an archive", image(b"PK\3\4" + bytes(9)), "a zip archive: unpack it"),
    ("A", "32-bit numbers", image(saved("I", "TIFF")), "0.png: mode I, 32-bit whole numbers, which do not tell what"),
    ("A", "floating point", image(saved("F", "TIFF")), "0.png: mode F, 32-bit floating point numbers, which do not"),
    ("J", "10^12 pixels", image(vast()), NO_IMAGE),
)
ROWS = [
    *(
        Row(kind, f"image is {name}", source, spoil, said)
        for kind, name, spoil, said in FILES
        for source in ("imagefolder", "list")
    ),
    Row("A", "cut short", "imagefolder", image(lambda data: data[:-30]), f"{NO_IMAGE}, or cut short"),
    Row(
        "M", "a dead link", "list", linked, "is a link to /media/nowhere/0.png, which is not there: mount what it leads"
    ),
    Row("M", "not fetched", "list", annexed, "0.png, which is not there: run git annex get"),
    Row("M", "a dead link", "imagefolder", linked, "train/bee/0.png: no such file"),
    Row(
        "C",
        "a class of other files",
        "imagefolder",
        both(taken("train/bee"), added("train/bee/0.gif"), added("train/bee/1.gif")),
        ".pgm, .tif, .tiff, .webp; it holds 2 .gif",
    ),
    Row("C", "an empty class", "imagefolder", taken("test/cat"), "data/raw/test/cat: class with no image"),
    Row(
        "C",
        "a class of the test alone",
        "imagefolder",
        added("test/dog/0.png", picture(1)),
        "data/raw/test/dog: no such class in data/raw/train",
    ),
    Row(
        "C",
        "a folder in itself",
        "imagefolder",
        loop,
        "data/raw/train/ant/again/ant: a link to a folder that holds it; remove the link",
    ),
    Row(
        "F",
        "no test set",
        "imagefolder",
        renamed("test", "tset"),
        "imagefolder has no test set of its own; set e.g. 40",
    ),
    Row("F", "no tail", "imagefolder", block(cuts=[1, 3]), "cuts: [1, 3] leaves no tail among 3 classes"),
    Row(
        "F", "more than there are", "imagefolder", block(n_max=9), "class 'ant' would keep 9 of its 3 images; set n_max"
    ),
    Row("F", "two sizes", "imagefolder", image(lambda data: wide()), "pixels where others have"),
    Row(
        "I",
        "Latin-1 bytes",
        "imagefolder",
        both(renamed("train/bee", "train/b\udce9e"), renamed("test/bee", "test/b\udce9e")),
        "class name 'b\\udce9e' is not UTF-8; rename it, if it is Latin-1: convmv -f latin1 -t utf-8",
    ),
    Row(
        "I",
        "a newline",
        "imagefolder",
        both(renamed("train/bee", "train/b\ne"), renamed("test/bee", "test/b\ne")),
        "class name 'b\\ne' has the character '\\n', which no",
    ),
    Row(
        "M",
        "no folder",
        "imagefolder",
        renamed("../raw", "../row"),
        "data/raw: no such folder; datasets.own.raw names a folder",
    ),
]


def wide() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (9, 6)).save(out, "PNG")
    return out.getvalue()
