"""What a file really is, told by how it begins: for messages about files that are not what their names say."""

from __future__ import annotations

from pathlib import Path

START = 512  # bytes that are looked at; a tar archive says what it is at 257

POINTERS = {
    b"version https://git-lfs": "a Git LFS pointer, not the file itself: run git lfs pull",
    b"/annex/objects/": "a git-annex pointer, not the file itself: run git annex get",
}
PAGES = (b"<!doctype html", b"<html", b"<head", b"<!-- ", b"<script")
MAGIC = (  # (offset, bytes, what)
    (0, b"PK\x03\x04", "a zip archive: unpack it"),
    (0, b"\x1f\x8b", "a gzip archive: unpack it"),
    (4, b"1AY&SY", "a bzip2 archive: unpack it"),
    (0, b"\xfd7zXZ\x00", "an xz archive: unpack it"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive: unpack it"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it"),
    (0, b"Rar!", "a rar archive: unpack it"),
    (257, b"ustar", "a tar archive: unpack it"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x00\x05\x16\x07", "what macOS keeps beside a file (AppleDouble), not the file itself: remove it"),
    (0, b"\xff\xfe", "UTF-16 text (it starts with that byte order mark): save it as UTF-8"),
    (0, b"\xfe\xff", "UTF-16 text (it starts with that byte order mark): save it as UTF-8"),
    (4, b"ftyphei", "a HEIC image, which Pillow does not read: save it as JPEG or PNG"),
    (4, b"ftypmif", "a HEIF image, which Pillow does not read: save it as JPEG or PNG"),
    (0, b"\x89PNG", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (4, b'\0\0\0\0{"', "a safetensors file"),
)


def really(path: str | Path, expected: tuple[str, ...] = ()) -> str:
    """A clause such as `a web page was saved in its place`; empty where nothing is recognised or the file is missing.

    expected: words, such as `image`; what is told with one of them is what the file should be, and is not told.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(START)
    except OSError:
        return ""
    found = _recognised(start)
    return "" if any(word in found for word in expected) else found


def _recognised(start: bytes) -> str:
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not start:
        return "the file is empty"
    if not start.strip(b"\0"):
        return "it begins with nothing but zeros: copied in part, or a damaged disk"
    for begin, what in POINTERS.items():
        if text.startswith(begin):
            return what
    if text.startswith(PAGES):
        return "a web page was saved in its place"
    if text.startswith(b"<?xml") and b"<svg" not in text:
        page = b"<!doctype html" in text or b"<html" in text
        return f"a{' web page' if page else 'n XML document (an error of the server?)'} was saved in its place"
    if text.startswith((b"<svg", b"<?xml")):
        return "an SVG drawing, which Pillow does not read: save it as PNG"
    return next((what for at, magic, what in MAGIC if start[at : at + len(magic)] == magic), "")
