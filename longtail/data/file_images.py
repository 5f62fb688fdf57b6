"""Images that stay in their files: paths under a folder, decoded one at a time when asked for."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from longtail.base.errors import UserError
from longtail.base.images import scaled
from longtail.base.what_file import really


@dataclass(frozen=True)
class FileImages:
    """A base.images.Images. Arrays and texts only, so that worker processes get it cheaply, forked or spawned."""

    root: str  # as the entry writes it: relative to the folder that stages run in
    files: np.ndarray  # bytes [N]: path of each under root, UTF-8
    file_sizes: np.ndarray  # int64 [N, 2]: height and width in the file
    file_bytes: np.ndarray  # int64 [N]
    short_side: int  # shorter side resized to this, bicubic; 0 = as in the file

    def __len__(self) -> int:
        return len(self.files)

    @cached_property
    def sizes(self) -> np.ndarray:
        """Height and width of what is decoded, int64 [N, 2]."""
        return scaled(self.file_sizes, self.short_side) if self.short_side else self.file_sizes

    def __getitem__(self, index):
        """An integer: RGB uint8 [H, W, 3]. A slice or an integer array: those images, not decoded.

        Raises UserError for a file that is missing, damaged, or not of the size that the dataset file remembers."""
        if isinstance(index, slice | np.ndarray | list):
            return self.subset(index)
        return self.pixels(index)

    def subset(self, index) -> FileImages:
        names = ("files", "file_sizes", "file_bytes")
        return replace(self, **{name: getattr(self, name)[index] for name in names})

    def path(self, index: int) -> Path:
        return Path(self.root) / self.files[index].decode()

    def pixels(self, index: int) -> np.ndarray:
        path, (height, width) = self.path(index), self.file_sizes[index].tolist()
        image = read_rgb(path)
        if image.size != (width, height):
            raise UserError(
                f"{path}: {image.width}x{image.height} pixels, {width}x{height} when the dataset file was made;"
                " put the image back or make it again with stages/subsample.py"
            )
        if self.short_side:
            height, width = self.sizes[index].tolist()
            image = image.resize((width, height), Image.Resampling.BICUBIC)
        return np.asarray(image)

    def content(self) -> dict[str, np.ndarray]:
        """What decides the pixels, as far as it is known without decoding; not where the files lie."""
        names = ("files", "file_sizes", "file_bytes", "short_side")
        return {name: np.asarray(getattr(self, name)) for name in names}

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything, for a dataset file."""
        return {"root": np.asarray(self.root), **self.content()}

    @cached_property
    def digest(self) -> str:
        """sha256 of the content: of the list of files with their sizes."""
        sha = hashlib.sha256()
        for name, value in self.content().items():
            sha.update(f"{name} {value.dtype.str} {value.shape}".encode())
            sha.update(np.ascontiguousarray(value).tobytes())
        return sha.hexdigest()


WIDE = ("I;16", "I;16L", "I;16B", "I;16N")  # grey, 16 bits
NO_RANGE = {"I": "32-bit whole numbers", "F": "32-bit floating point numbers"}


def read_rgb(path: Path) -> Image.Image:
    """The whole image as RGB, as torchvision reads it (no EXIF rotation), where that is what a viewer shows.

    Of 16-bit grey the upper 8 bits are taken; what is transparent is laid over white. Raises UserError where the file
    is no image or of a mode whose black and white are not known."""
    try:
        with Image.open(path) as opened:
            _check_mode(opened, path)
            return _upper_bits(opened) if _is_wide(opened) else _over_white(opened)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UserError:
        raise
    except Exception as error:  # a damaged file makes Pillow raise many kinds
        raise UserError(f"{path}: not a readable image, or cut short{_because(path, error)}") from None


def read_header(path: str | Path) -> tuple[int, int, int]:
    """Height, width and bytes of a file, from its header alone. Raises UserError where there is none, or the mode is
    one that `read_rgb` refuses."""
    try:
        with open(path, "rb") as file, Image.open(file) as image:
            _check_mode(image, path)
            return image.height, image.width, os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path}: not a readable image{_because(path, error)}") from None


def _because(path: str | Path, error: Exception) -> str:
    """What the file really is, else what Pillow says."""
    found = really(path, ("PNG image", "JPEG image"))
    return f": {found}" if found else f" ({' '.join(str(error).split())})"


def _check_mode(image: Image.Image, path: str | Path) -> None:
    if image.mode in NO_RANGE and not _is_wide(image):
        raise UserError(
            f"{path}: mode {image.mode}, {NO_RANGE[image.mode]}, which do not tell what is black and what is white;"
            " save it as RGB or grey with 8 or 16 bits"
        )


def _is_wide(image: Image.Image) -> bool:
    return image.mode in WIDE or (image.mode == "I" and image.format == "PPM")  # PGM, scaled to 16 bits by Pillow


def _upper_bits(image: Image.Image) -> Image.Image:
    """16-bit grey as 8-bit RGB; TIFF may have 12 bits, and may count from white."""
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(258, (16,))[0] if image.format == "TIFF" else 16
    grey = np.clip(np.asarray(image).astype(np.int64) >> (bits - 8), 0, 255).astype(np.uint8)
    return Image.fromarray(255 - grey if tags.get(262) == 0 else grey).convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    colours = image.convert("RGBA")
    if colours.getextrema()[3][0] == 255:  # opaque throughout
        return colours.convert("RGB")
    white = Image.new("RGBA", colours.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, colours).convert("RGB")
