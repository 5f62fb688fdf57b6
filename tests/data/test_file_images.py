from __future__ import annotations

import multiprocessing
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms

from longtail.base.errors import UserError
from longtail.base.images import scaled, sizes_of
from longtail.data.file_images import FileImages, read_header, read_rgb
from tests.helpers.disk_datasets import SIZES, jpeg


def made(folder: Path, n: int = 6, short_side: int = 0) -> FileImages:
    for number in range(n):
        jpeg(folder / f"class {number % 2}/{number}.JPEG", number)
    files = [f"class {number % 2}/{number}.JPEG" for number in range(n)]
    heads = np.array([read_header(folder / file) for file in files])
    return FileImages(str(folder), np.array([f.encode() for f in files]), heads[:, :2], heads[:, 2], short_side)


def told(call) -> str:
    with pytest.raises(UserError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_images_are_decoded_as_torchvision_does(tmp_path):
    images = made(tmp_path)
    assert len(images) == 6 and images.sizes.tolist() == [list(SIZES[i % 4]) for i in range(6)]
    assert sizes_of(images) is images.sizes
    for index in range(6):
        expected = np.asarray(Image.open(tmp_path / f"class {index % 2}/{index}.JPEG").convert("RGB"))
        assert (images[index] == expected).all() and images[index].dtype == np.uint8
        assert images[index].shape == (*SIZES[index % 4], 3)
    assert images.file_bytes.tolist() == [images.path(i).stat().st_size for i in range(6)]


def test_grey_palette_cmyk_and_rotated_files(tmp_path):
    Image.new("L", (5, 4), 200).save(tmp_path / "grey.jpg")
    Image.new("CMYK", (5, 4)).save(tmp_path / "cmyk.jpg")
    Image.new("P", (5, 4)).save(tmp_path / "palette.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees, which torchvision's loader does not look at
    Image.new("RGB", (5, 4)).save(tmp_path / "rotated.jpg", exif=exif)
    for name in ("grey.jpg", "cmyk.jpg", "palette.png", "rotated.jpg"):
        assert read_header(tmp_path / name)[:2] == (4, 5)
        assert np.asarray(read_rgb(tmp_path / name)).shape == (4, 5, 3)


GREY = np.arange(0, 65536, 4096, dtype=np.uint16).reshape(4, 4) + 255  # high bytes 0, 16, 32 ...; low ones 255


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_of_16_bits_the_upper_8_are_taken(tmp_path, suffix):
    Image.fromarray(GREY).save(tmp_path / f"a.{suffix}")
    read = np.asarray(read_rgb(tmp_path / f"a.{suffix}"))
    assert (read == (GREY // 256)[..., None]).all() and read.shape == (4, 4, 3)
    Image.fromarray(GREY.astype(">u2")).save(tmp_path / "b.tif")
    assert (np.asarray(read_rgb(tmp_path / "b.tif")) == read).all()


def test_tiff_that_counts_from_white(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.tif", tiffinfo={262: 0})
    assert (np.asarray(read_rgb(tmp_path / "a.tif")) == 255 - (GREY // 256)[..., None]).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "LAB", "HSV", "RGBX"])
def test_opaque_modes_are_read_as_torchvision_reads_them(tmp_path, mode):
    """Every mode that some format holds, among those that have no alpha: Pillow's own conversion."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8))
    image = Image.new(mode, (8, 8), 3) if mode in ("LAB", "HSV", "RGBX") else noise.convert(mode)
    for suffix in ("png", "tif", "bmp"):
        path = tmp_path / f"{mode}.{suffix}"
        try:
            image.save(path)
            expected = np.asarray(Image.open(path).convert("RGB"))
        except (OSError, ValueError):
            continue
        assert (np.asarray(read_rgb(path)) == expected).all() and read_header(path)[:2] == (8, 8)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
def test_what_is_transparent_is_white(tmp_path, mode):
    """As a viewer shows it: over white, by alpha. 40 at 50.2 % (128 of 255) over 255 is 147, by hand."""
    alpha = np.array([[0, 128, 255]], np.uint8)
    if mode == "P":
        picture = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
        picture.putpalette([40] * 9)
        picture.save(tmp_path / "a.png", transparency=bytes(alpha[0]))
    else:
        grey = np.full((1, 3), 40, np.uint8)
        channels = (grey,) * (3 if mode == "RGBA" else 1)
        picture = Image.fromarray(np.stack([*channels, alpha], -1), "RGBA" if mode == "RGBA" else "LA")
        if mode == "PA":  # Pillow's own conversion to PA forgets the alpha
            picture = Image.fromarray(grey).convert("PA")
            picture.putalpha(Image.fromarray(alpha))
        picture.save(tmp_path / ("a.tif" if mode == "PA" else "a.png"))
    (path,) = tmp_path.iterdir()
    assert np.asarray(read_rgb(path))[0, :, 0].tolist() == [255, 147, 40]
    opaque = Image.new("RGBA", (2, 2), (1, 2, 3, 255))
    opaque.save(path.with_suffix(".png"))
    assert np.asarray(read_rgb(path.with_suffix(".png"))).tolist() == [[[1, 2, 3]] * 2] * 2


@pytest.mark.parametrize(("mode", "dtype"), [("I", np.int32), ("F", np.float32)])
def test_modes_without_black_and_white_are_refused_by_name(tmp_path, mode, dtype):
    Image.fromarray(np.ones((4, 4), dtype)).save(tmp_path / "a.tif")
    for read in (read_header, read_rgb):
        assert told(lambda read=read: read(tmp_path / "a.tif")).startswith(f"{tmp_path / 'a.tif'}: mode {mode}, 32-bit")


def test_parts_are_images_too(tmp_path):
    images = made(tmp_path)
    for part, rows in ((images[1:4], [1, 2, 3]), (images[np.array([5, 0])], [5, 0]), (images[[2]], [2])):
        assert len(part) == len(rows) and (part.sizes == images.sizes[rows]).all()
        for i, row in enumerate(rows):
            assert (part[i] == images[row]).all()
    assert len(list(images)) == 6  # ends like any sequence
    with pytest.raises(IndexError):
        images[6]


@pytest.mark.parametrize("side", [8, 24])
def test_a_shorter_side_is_torchvisions_resize(tmp_path, side):
    images, plain = made(tmp_path, short_side=side), made(tmp_path)
    resize = transforms.Resize(side, transforms.InterpolationMode.BICUBIC)
    for index in range(6):
        expected = np.asarray(resize(Image.fromarray(plain[index])))
        assert (images[index] == expected).all()
        assert images.sizes[index].tolist() == list(expected.shape[:2]) and min(expected.shape[:2]) == side


def test_scaled_sizes_truncate_as_torchvision_does():
    sizes = np.random.default_rng(0).integers(1, 5000, (2000, 2))
    by_hand = [[int(256 * v / min(h, w)) for v in (h, w)] for h, w in sizes.tolist()]
    assert scaled(sizes, 256).tolist() == by_hand and scaled(sizes, 256).dtype == np.int64


def test_damaged_missing_and_exchanged_files_are_named(tmp_path):
    images = made(tmp_path)
    images.path(0).unlink()
    assert told(lambda: images[0]) == f"{images.path(0)}: no such file"
    whole = images.path(1).read_bytes()
    for kept in (0, 100, len(whole) - 200):
        images.path(1).write_bytes(whole[:kept])
        assert f"{images.path(1)}: not a readable image, or cut short" in told(lambda: images[1])
    Image.new("RGB", (9, 7)).save(images.path(2))
    assert "9x7 pixels, 16x16 when the dataset file was made" in told(lambda: images[2])
    assert "no such file" in told(lambda: read_header(images.path(0)))
    images.path(1).write_bytes(b"")
    assert "not a readable image" in told(lambda: read_header(images.path(1)))


def brightness(images: FileImages, index: int) -> int:
    return int(images[index].sum())


def test_worker_processes_get_them_cheaply(tmp_path):
    images = made(tmp_path)
    assert images.sizes is not None and images.digest  # what is computed on the way
    assert len(pickle.dumps(images)) < 2000
    many = replace(images, files=np.repeat(images.files, 5000), file_sizes=np.repeat(images.file_sizes, 5000, 0))
    many = replace(many, file_bytes=np.repeat(images.file_bytes, 5000))
    assert len(pickle.dumps(many)) < 60 * len(many)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(brightness, (images, 3)) == brightness(images, 3)


def test_the_digest_is_of_files_and_sizes_and_not_of_their_place(tmp_path):
    images = made(tmp_path)
    assert replace(images, root="elsewhere").digest == images.digest
    changed = {
        "files": np.array([b"x", *images.files[1:]]),
        "file_sizes": images.file_sizes + 1,
        "file_bytes": images.file_bytes + 1,
        "short_side": 8,
    }
    assert len({images.digest, *(replace(images, **{k: v}).digest for k, v in changed.items())}) == 5
