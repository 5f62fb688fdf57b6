"""Class folders: the images that torchvision's ImageFolder reads, in its order; what is left out is counted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from torchvision.datasets import ImageFolder

from longtail.base.errors import UserError
from longtail.data.image_folders import IMAGE_SUFFIXES, class_folders, files_of

FILES = (
    *("ant/b.png", "ant/a.JPG", "ant/A.tif", "ant/x/1.TIFF", "ant/x/y/0.webp", "ant/.hidden/z.bmp", "ant/._b.png"),
    *("bee/1.pgm", "bee/10.ppm", "bee/2.jpeg", "bee/new/3.PnG", "cat dog/\u00e4.png", "cat dog/a b.png"),
)
OTHERS = ("ant/notes.txt", "ant/x/c.gif", "bee/Thumbs.db", "bee/noend")


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in (*FILES, *OTHERS):
        (tmp_path / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "train" / name).touch()
    return tmp_path / "train"


def test_as_torchvision_reads_them(folder):
    (folder / "bee/linked").symlink_to(folder / "ant/x")  # torchvision follows links too
    theirs = ImageFolder(str(folder))
    names, notes = class_folders(folder)
    files, labels, left = files_of(folder, names)
    assert names == theirs.classes and len(files) == len(FILES) + 2
    assert [(str(f), int(k)) for f, k in zip(files, labels, strict=True)] == theirs.samples
    from torchvision.datasets.folder import IMG_EXTENSIONS

    assert set(IMAGE_SUFFIXES) == set(IMG_EXTENSIONS) and notes == []
    expected = f"{folder}: 5 files left out, no images (2 .gif, 1 .txt, 1 .db, 1 without a suffix), e.g. ant/notes.txt"
    assert left == [expected]


def test_what_stands_beside_the_classes_is_told(folder):
    (folder / "loose.PNG").touch()
    (folder / "readme.md").touch()
    for number in range(5):
        (folder / f".h{number}").mkdir()
    names, notes = class_folders(folder)
    assert names == ["ant", "bee", "cat dog"]
    assert notes == [
        f"{folder}: hidden folders are no classes: .h0, .h1, .h2 and 2 more",
        f"{folder}: 1 image in no class folder left out, e.g. loose.PNG",
    ]


def test_a_folder_that_may_not_be_read_is_named(folder):
    if os.geteuid() == 0:
        pytest.skip("root may read every folder")
    (folder / "bee/new").chmod(0)
    with pytest.raises(UserError, match=r"bee/new: the folder cannot be read \(Permission denied\)"):
        files_of(folder, ["bee"])
