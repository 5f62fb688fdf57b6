from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from longtail.base.errors import UserError
from longtail.data import packing
from longtail.data.file_images import FileImages, read_header
from longtail.data.long_tail import LongTail
from longtail.data.packed_images import PackedImages, packed
from longtail.data.packing import pack_split
from tests.helpers.disk_datasets import imagenet_lt, jpeg
from tests.helpers.stage_processes import finish, start

N = 11


@pytest.fixture
def images(tmp_path, monkeypatch) -> FileImages:
    monkeypatch.setattr(packing, "CHUNK", 4)  # 4, 4 and 3 images
    return made(tmp_path / "images")


def made(root: Path, short_side: int = 0) -> FileImages:
    for number in range(N):
        jpeg(root / f"{number}.jpg", number)
    files = np.array([f"{number}.jpg".encode() for number in range(N)])
    heads = np.array([read_header(root / file.decode()) for file in files.tolist()])
    return FileImages(str(root), files, heads[:, :2], heads[:, 2], short_side)


def told(call) -> str:
    with pytest.raises(UserError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("short_side", [0, 12])
def test_a_pack_holds_the_pixels_that_decoding_gives(images, tmp_path, jobs, short_side):
    images = made(tmp_path / "images", short_side)
    assert "11 images, 0.00 GB" in pack_split(images, "train", tmp_path / "pack", jobs)
    assert sorted(p.name for p in (tmp_path / "pack").iterdir()) == ["train.bin", "train.npz"]
    again = packed(images, str(tmp_path / "pack"), "train")
    assert len(again) == N and (again.sizes == images.sizes).all() and again.digest == images.digest
    for index in range(N):
        assert (again[index] == images[index]).all() and again[index].dtype == np.uint8
    part = again[np.array([7, 2])][1:]
    assert (part[0] == images[2]).all() and type(part) is PackedImages


def test_the_files_themselves_are_no_longer_needed(images, tmp_path):
    pack_split(images, "train", tmp_path / "pack", 1)
    expected = images[3]
    shutil.rmtree(tmp_path / "images")
    assert (packed(images, str(tmp_path / "pack"), "train")[3] == expected).all()


def test_workers_get_the_place_of_a_pack_and_not_its_bytes(images, tmp_path):
    pack_split(images, "train", tmp_path / "pack", 1)
    opened = packed(images, str(tmp_path / "pack"), "train")
    expected = opened[5]
    sent = pickle.dumps(opened)
    assert len(sent) < 3000 < images.sizes.prod(1).sum()
    assert (pickle.loads(sent)[5] == expected).all()


def test_a_stopped_run_goes_on(images, tmp_path, monkeypatch):
    pack_split(images, "train", tmp_path / "whole", 1)
    victim, folder = images.path(9), tmp_path / "pack"
    content = victim.read_bytes()
    victim.write_bytes(content[:50])  # in the third chunk
    assert f"{victim}: not a readable image" in told(lambda: pack_split(images, "train", folder, 1))
    assert not list(folder.glob("train*"))  # nothing has its final name
    victim.write_bytes(content)
    (journal,) = folder.glob(".train*.done")
    with open(journal, "a") as file:
        file.write("0123")  # a line that was cut short
    decoded = []
    monkeypatch.setattr(FileImages, "pixels", spy(FileImages.pixels, decoded))
    assert "2 of 3 chunks were there" in pack_split(images, "train", folder, 1)
    assert decoded == [8, 9, 10]
    for name in ("train.bin", "train.npz"):
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert sorted(os.listdir(folder)) == ["train.bin", "train.npz"]


def test_a_killed_run_goes_on(images, tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "CHUNK", 1)
    pack_split(images, "train", tmp_path / "whole", 1)
    folder, pixels = tmp_path / "pack", FileImages.pixels

    def slowly(self, index):
        time.sleep(0.05)
        return pixels(self, index)

    monkeypatch.setattr(FileImages, "pixels", slowly)
    process = multiprocessing.get_context("fork").Process(target=pack_split, args=(images, "train", folder, 2))
    process.start()
    while not any(p.stat().st_size >= 3 * 65 for p in folder.glob(".train*.done")):
        time.sleep(0.01)
    process.kill()
    process.join()
    monkeypatch.setattr(FileImages, "pixels", pixels)
    assert "of 11 chunks were there" in pack_split(images, "train", folder, 1)
    for name in ("train.bin", "train.npz"):
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def spy(pixels, seen: list):
    def wrapped(self, index):
        seen.append(index)
        return pixels(self, index)

    return wrapped


def test_a_finished_pack_is_checked(images, tmp_path):
    folder = tmp_path / "pack"
    pack_split(images, "train", folder, 1)
    assert "already there, checksums right" in pack_split(images, "train", folder, 1)
    values = folder / "train.bin"
    whole = values.read_bytes()
    position = int(images.sizes[:5].prod(1).sum() * 3)  # in image 5, the second chunk
    values.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
    assert f"wrong checksum from image 4; remove {folder}" in told(lambda: pack_split(images, "train", folder, 1))
    values.write_bytes(whole[:-1])
    assert f"missing or not of {len(whole)} bytes" in told(lambda: pack_split(images, "train", folder, 1))
    reader = packed(images, str(folder), "train")
    assert f"{len(whole) - 1} bytes instead of {len(whole)}" in told(lambda: reader[0])
    index = folder / "train.npz"
    index.write_bytes(index.read_bytes()[:-9])
    for use in (lambda: pack_split(images, "train", folder, 1), lambda: packed(images, str(folder), "train")[0]):
        assert f"{index}: cut short or damaged (" in told(use) and f"; remove {folder} and pack again" in told(use)


def test_a_pack_of_other_images_is_refused(images, tmp_path):
    folder = tmp_path / "pack"
    pack_split(images, "train", folder, 1)
    other = made(tmp_path / "images", 12)
    assert "made of other files or sizes" in told(lambda: pack_split(other, "train", folder, 1))
    assert "made of other files or sizes" in told(lambda: packed(other, str(folder), "train")[0])
    assert "no pack of the test images" in told(lambda: packed(images, str(folder), "test")[0])


def test_a_full_disk_is_told_before_the_start(images, tmp_path, monkeypatch):
    monkeypatch.setattr(packing.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 0))
    assert "GB needed, 0.0 GB free" in told(lambda: pack_split(images, "train", tmp_path / "pack", 1))


def test_of_two_at_a_time_one_waits_and_finds_it_done(images, tmp_path, capfd):
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=pack_and_tell, args=(images, tmp_path / "pack")) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    said = capfd.readouterr().out.splitlines()
    assert [p.exitcode for p in both] == [0, 0]
    assert "11 images, already there, checksums right" in said and "11 images, 0.00 GB" in said
    assert (packed(images, str(tmp_path / "pack"), "train")[10] == images[10]).all()


def pack_and_tell(images: FileImages, folder: Path) -> None:
    print(pack_split(images, "train", folder, 1), flush=True)


# ---- the stage


def test_the_stage_packs_what_the_dataset_file_names(tmp_path, monkeypatch):
    block = imagenet_lt(tmp_path)

    def write(**files) -> None:
        entry = block | {"files": block["files"] | files}
        (tmp_path / "params.yaml").write_text(yaml.safe_dump({"datasets": {"imagenet": entry}}))

    write()
    subsample = ("subsample", "imagenet", "--out", "d.npz")
    pack = ("pack", "imagenet", "--dataset", "d.npz", "--out", "data/packed/imagenet")
    finish(tmp_path, *subsample)
    plain = LongTail.load(tmp_path / "d.npz")
    assert "imagenet test: 8 images" in finish(tmp_path, *pack).out
    write(pack="data/packed/imagenet")
    finish(tmp_path, *subsample)
    data = LongTail.load(tmp_path / "d.npz")
    assert type(data.train_images) is PackedImages and data.digest == plain.digest  # a pack changes no result
    monkeypatch.chdir(tmp_path)
    for ours, theirs in ((plain.train_images, data.train_images), (plain.test_images, data.test_images)):
        assert all((a == b).all() for a, b in zip(ours, theirs, strict=True))
    assert "train: 13 images, already there" in finish(tmp_path, *pack).out
    run = start(tmp_path, *pack[:-1], "data/packed/other")
    assert run.wait() == 2 and "files.pack is data/packed/imagenet, --out data/packed/other" in run.err
