import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from longtail.base.errors import UserError
from longtail.data.file_images import FileImages
from longtail.views import eval_views
from longtail.views.eval_views import EvalViews, eval_batch, eval_pixels
from longtail.views.normalize import NORMALIZATION
from tests.helpers.disk_datasets import SIZES, jpeg

BICUBIC = transforms.InterpolationMode.BICUBIC


def noise(n, height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("shape", "size", "resize_to"),
    [
        ((32, 32), 224, 256),
        ((32, 32), 32, 32),
        ((8, 8), 24, 24),
        ((8, 8), 24, 28),
        ((50, 37), 30, 37),
        ((37, 51), 33, 36),
    ],
)
def test_equals_torchvision(shape, size, resize_to):
    images = noise(3, *shape)
    norm = next(iter(NORMALIZATION))
    mean, std = NORMALIZATION[norm]
    reference = transforms.Compose([transforms.Resize(resize_to, BICUBIC), transforms.CenterCrop(size)])
    tensor = transforms.Compose([reference, transforms.ToTensor(), transforms.Normalize(mean, std)])
    ours = eval_pixels(images, size, resize_to)
    assert ours.dtype == torch.uint8 and ours.shape == (3, 3, size, size)
    for view, image in zip(ours, images, strict=True):
        np.testing.assert_array_equal(view.permute(1, 2, 0).numpy(), np.asarray(reference(Image.fromarray(image))))
    expected = torch.stack([tensor(Image.fromarray(image)) for image in images])
    assert torch.equal(eval_batch(images, size, resize_to, norm), expected)


def test_the_published_crop_keeps_the_central_28_pixels():
    """256/32 = 8 and (256 - 224)/2 = 16 = two source pixels: view pixel i lies over source pixel 2 + i//8."""
    for row, column in ((17, 9), (5, 26)):
        image = np.zeros((1, 32, 32, 3), np.uint8)
        image[0, row, column] = 255
        view = eval_pixels(image, 224, 256)[0, 0].numpy().astype(float)
        centre = [np.average(np.arange(224), weights=view.sum(axis)) for axis in (1, 0)]
        assert centre == pytest.approx([8 * (row - 2) + 3.5, 8 * (column - 2) + 3.5], abs=1e-9)
    image = np.zeros((1, 32, 32, 3), np.uint8)
    image[:, 2:-2, 2:-2] = 200
    cropped, direct = eval_pixels(image, 224, 256)[0, 0].numpy(), eval_pixels(image, 224, 224)[0, 0].numpy()
    assert (cropped[12:-12, 12:-12] == 200).all() and cropped.min() > 0  # the black frame is cropped away
    assert (direct[:10] == 0).all()  # a direct resize keeps it


def test_the_outermost_pixel_reaches_only_the_rim():
    """Source pixel 0 is 16 view pixels outside; bicubic's support is 2 source pixels: only view rows < 4 can change."""
    image = noise(1, 32, 32)
    edged = image.copy()
    edged[:, [0, -1]] ^= 255
    edged[:, :, [0, -1]] ^= 255
    a, b = eval_pixels(image, 224, 256)[0].numpy(), eval_pixels(edged, 224, 256)[0].numpy()
    assert (a[:, 4:-4, 4:-4] == b[:, 4:-4, 4:-4]).all()
    c, d = eval_pixels(image, 224, 224)[0].numpy(), eval_pixels(edged, 224, 224)[0].numpy()
    assert (c[:, 0] != d[:, 0]).mean() > 0.9 and (c[:, 4:-4, 4:-4] != d[:, 4:-4, 4:-4]).any()


def test_crop_larger_than_the_resized_image():
    with pytest.raises(ValueError, match="eval_resize 200"):
        eval_pixels(noise(1, 8, 8), 224, 200)


# ---- images in files


@pytest.fixture
def on_disk(tmp_path) -> FileImages:
    for number in range(9):
        jpeg(tmp_path / f"{number}.jpg", number)
    files = np.array([f"{number}.jpg".encode() for number in range(9)])
    return FileImages(str(tmp_path), files, np.array([SIZES[i % 4] for i in range(9)]), np.ones(9, np.int64), 0)


@pytest.mark.parametrize(("size", "resize_to"), [(24, 28), (16, 16), (224, 256)])
def test_images_of_several_sizes_equal_torchvision(on_disk, size, resize_to):
    reference = transforms.Compose([transforms.Resize(resize_to, BICUBIC), transforms.CenterCrop(size)])
    ours = eval_pixels(on_disk, size, resize_to)
    assert ours.dtype == torch.uint8 and ours.shape == (9, 3, size, size) and ours.is_contiguous()
    for view, image in zip(ours, on_disk, strict=True):
        np.testing.assert_array_equal(view.permute(1, 2, 0).numpy(), np.asarray(reference(Image.fromarray(image))))


@pytest.mark.parametrize("workers", [1, 3])
def test_views_stream_in_order_as_often_as_asked_for(on_disk, workers, monkeypatch):
    monkeypatch.setattr(eval_views, "cores", lambda: workers)
    views = EvalViews(on_disk, 24, 28)
    for _ in range(2):
        batches = list(views.batches(4))
        assert [len(b) for b in batches] == [4, 4, 1] and len(views) == 9
        assert all(b.dtype == torch.uint8 and b.is_contiguous() for b in batches)
        assert torch.equal(torch.cat(batches), eval_pixels(on_disk, 24, 28))
    assert torch.equal(next(iter(views.batches(2))), eval_pixels(on_disk[:2], 24, 28))  # and may be left early


def test_views_of_an_array_are_made_once(monkeypatch):
    images = noise(5, 8, 8)
    views, expected = EvalViews(images, 24, 28), eval_pixels(images, 24, 28)
    monkeypatch.setattr(eval_views, "_views", None)
    for batch in (2, 5, 9):
        assert torch.equal(torch.cat(list(views.batches(batch))), expected)


def test_a_damaged_test_image_is_named_from_a_worker(on_disk, monkeypatch):
    monkeypatch.setattr(eval_views, "cores", lambda: 2)
    on_disk.path(7).write_bytes(b"")
    with pytest.raises(UserError, match=r"7\.jpg: not a readable image, or cut short"):
        list(EvalViews(on_disk, 24, 28).batches(4))


def test_a_resize_too_small_is_told_before_anything_is_read(on_disk):
    with pytest.raises(ValueError, match="eval_resize 20 is smaller"):
        EvalViews(on_disk, 24, 20)
