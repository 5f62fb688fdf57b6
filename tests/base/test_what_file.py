from __future__ import annotations

import io

import pytest
import torch
from PIL import Image
from safetensors.torch import save

from longtail.base.what_file import really

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "the file is empty"),
        (bytes(9), "it begins with nothing but zeros"),
        (LFS, "a Git LFS pointer, not the file itself: run git lfs pull"),
        (b"/annex/objects/SHA256E-s31390--f50d.png\n", "a git-annex pointer"),
        (b"\n <!DOCTYPE HTML>\n<title>404</title>", "a web page was saved in its place"),
        (b"\xef\xbb\xbf<html>", "a web page was saved in its place"),
        (b"<?xml version='1.0'?>\n<!DOCTYPE html>", "a web page was saved in its place"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an XML document (an error of the server?)"),
        (b"<?xml version='1.0'?><svg/>", "an SVG drawing"),
        (b"\xff\xfep\0a\0", "UTF-16 text"),
        (b"name" + 253 * b"\0" + b"ustar", "a tar archive: unpack it"),
        (b"BZh91AY&SY", "a bzip2 archive"),
        (b"path,label\na,0\n", ""),
        (b'{"a": {"b', ""),
        (b"{" + 7 * b" " + b'{"', ""),
    ],
)
def test_a_file_is_known_by_how_it_begins(tmp_path, content, expected):
    path = tmp_path / "x.png"
    path.write_bytes(content)
    assert really(path).startswith(expected) and bool(really(path)) == bool(expected)


def test_real_files_of_both_libraries(tmp_path):
    out = io.BytesIO()
    torch.save({"a": torch.zeros(2)}, out)
    (tmp_path / "a").write_bytes(out.getvalue())
    assert really(tmp_path / "a") == "a zip archive: unpack it" and really(tmp_path / "a", ("zip",)) == ""
    (tmp_path / "b").write_bytes(save({"a": torch.zeros(2)}))
    assert really(tmp_path / "b") == "a safetensors file"
    Image.new("RGB", (2, 2)).save(tmp_path / "c.png")
    assert really(tmp_path / "c.png") == "a PNG image" and really(tmp_path / "none") == ""
