from __future__ import annotations

import hashlib
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from longtail.base import params
from longtail.base.errors import UserError
from longtail.data import sources
from longtail.data.long_tail import longtail_counts, subsample
from longtail.data.sources import DatasetConfig, Source, make_longtail
from tests.helpers.root import ROOT

JPEGS = ROOT / "data" / "raw" / "cifar10_jpeg"  # CIFAR-10 as class folders of JPEG files
ARCHIVE = ROOT.parent / "shared" / "data" / "cifar10_jpeg.tar.xz"
CIFAR10_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def config_of(source: str, **changes) -> DatasetConfig:
    values = {
        "source": source,
        "raw": "data/none",
        "imbalance_factor": 20.0,
        "n_max": None,
        "subset_seed": 0,
        "cuts": [3, 7],
        "test_per_class": None,
        "image_size": None,
        "download": False,
    }
    return params.build(DatasetConfig, values | changes, "datasets.d")


def told(call) -> str:
    with pytest.raises(UserError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("source", "changes", "expected"),
    [
        (
            "digit",
            {},
            "datasets.d.source: 'digit' is not one of digits, cifar10, cifar100, imagefolder, list, inat, csv; did",
        ),
        ("digits", {"imbalance_factor": 0.01}, "imbalance_factor 0.01 is below 1; it is n_max / n_min"),
        ("digits", {"cuts": [7, 3]}, "cuts [7, 3] must rise"),
        ("digits", {"cuts": [0, 3]}, "cuts [0, 3] must rise from above 0"),
        ("digits", {"n_max": -5}, "n_max -5 is below 1"),
        ("digits", {"test_per_class": 0}, "test_per_class 0 is below 1"),
        ("digits", {"subset_seed": -1}, "subset_seed -1 is not in 0 to 2^32 - 1"),
        ("digits", {"image_size": 8}, "image_size 8: digits has images of one size"),
        ("cifar10", {"test_per_class": 10}, "test_per_class 10: cifar10 has a test set"),
    ],
)
def test_a_wrong_entry_is_refused(source, changes, expected):
    assert expected in told(lambda: config_of(source, **changes))


# ---- digits


COUNTS = "130 93 66 47 34 24 17 12 9 6"  # trunc(130 * 20^(-i/9))


def digits(**changes):
    return make_longtail("d", config_of("digits", n_max=130, test_per_class=40, **changes))


@pytest.fixture(scope="module")
def quickstart():
    return digits()


def test_digits_are_long_tailed_with_a_balanced_test_set(quickstart):
    data = quickstart
    assert data.class_counts.tolist() == [int(n) for n in COUNTS.split()]
    assert np.bincount(data.train_labels).tolist() == data.class_counts.tolist()
    assert (np.diff(data.train_labels) >= 0).all()
    assert np.bincount(data.test_labels).tolist() == [40] * 10
    assert data.train_images.shape == (438, 8, 8, 3) and data.test_images.shape == (400, 8, 8, 3)
    assert data.train_images.dtype == data.test_images.dtype == np.uint8
    assert data.class_names == tuple("0123456789") and data.name == "d" and data.cuts == (3, 7)


def test_digits_are_scikit_learns_in_256_grey_levels(quickstart):
    from sklearn.datasets import load_digits

    raw = load_digits()
    original = {image.tobytes(): label for image, label in zip(raw.images, raw.target, strict=True)}
    for images, labels in (
        (quickstart.train_images, quickstart.train_labels),
        (quickstart.test_images, quickstart.test_labels),
    ):
        assert (images == images[..., :1]).all()
        back = np.round(images[..., 0] / (255 / 16)).astype(np.float64)
        assert [original[image.tobytes()] for image in back] == labels.tolist()
    assert quickstart.train_images.max() == 255 and quickstart.train_images.min() == 0


def test_training_and_test_digits_are_different_images(quickstart):
    """By position in the source: a held-out digit is never among those that can be kept."""
    source = sources._digits(config_of("digits", test_per_class=40), "d")
    assert len(source.train_labels) + len(source.test_labels) == 1797
    every = np.concatenate([source.train(np.arange(1397)), source.test(np.arange(400))]).reshape(1797, -1)
    from sklearn.datasets import load_digits

    raw = np.round(load_digits().images * (255 / 16)).astype(np.uint8).reshape(1797, -1).repeat(3, 1)
    assert sorted(map(bytes, every)) == sorted(map(bytes, raw))
    assert (source.train(quickstart.train_index) == quickstart.train_images).all()
    assert (source.train_labels[quickstart.train_index] == quickstart.train_labels).all()


def test_digits_are_the_same_every_time_and_others_with_another_seed(quickstart):
    assert digits().digest == quickstart.digest
    other = digits(subset_seed=1)
    assert (other.class_counts == quickstart.class_counts).all()
    assert (other.train_index != quickstart.train_index).any() and other.class_order == quickstart.class_order


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"n_max": 130}, "datasets.d.test_per_class: digits has no test set of its own; set e.g. 40"),
        ({"n_max": 130, "test_per_class": 174}, "datasets.d.test_per_class: class 8 has 174 images, 174 asked"),
        ({"n_max": 150, "test_per_class": 40}, "class '0' would keep 150 of its 138 images"),
        ({"n_max": 10, "test_per_class": 40}, "class '7' would keep 0 of its 139 images"),
        ({"n_max": 130, "test_per_class": 40, "cuts": [3, 10]}, "cuts: [3, 10] leaves no tail among 10 classes"),
    ],
)
def test_digits_that_cannot_be_cut_so_are_refused(changes, expected):
    assert expected in told(lambda: make_longtail("d", config_of("digits", **changes)))


def test_a_class_without_any_training_image_is_named(monkeypatch):
    def hollow(config, name):
        labels = np.array([0, 0, 2, 2])
        return Source(["a", "b", "c"], labels, np.arange(3), lambda p: p, lambda p: p)

    monkeypatch.setitem(sources.SOURCES, "digits", hollow)
    assert told(lambda: make_longtail("d", config_of("digits", cuts=[1, 2]))).endswith(
        "datasets.d: class 'b' has no training image"
    )


# ---- a folder of class folders


def picture(seed: int, width: int = 8, height: int = 8) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)


def plant(folder: Path, counts: dict[str, int], suffix: str = ".png", seed: int = 0, **size) -> None:
    """One folder a class with so many random pictures in it."""
    for number, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(picture(seed + 100 * number + i, **size)).save(folder / name / f"{i:03}{suffix}")


def folder_config(root: Path, **changes) -> DatasetConfig:
    return config_of("imagefolder", raw=str(root), **{"imbalance_factor": 2.0, "cuts": [1, 2]} | changes)


@pytest.mark.parametrize("held_out", ["test", "val"])
def test_a_folder_with_train_and_test(tmp_path, held_out):
    plant(tmp_path / "train", {"cat": 4, "ant": 4, "bee": 4})
    plant(tmp_path / held_out, {"ant": 2, "bee": 2, "cat": 2}, seed=50)
    (tmp_path / "train" / ".thumbnails").mkdir()  # neither a class
    (tmp_path / "train" / "ant" / "notes.txt").write_text("no image")
    data = make_longtail("d", folder_config(tmp_path))
    assert data.class_names == ("ant", "bee", "cat") and data.class_counts.tolist() == [4, 2, 2]
    expected = subsample(np.repeat([0, 1, 2], 4), np.array([4, 2, 2]), 0)
    assert data.train_index.tolist() == expected.tolist()
    planted = np.stack([picture(100 * n + i) for n in (1, 2, 0) for i in range(4)])  # sorted: ant, bee, cat
    assert (data.train_images == planted[expected]).all()
    assert (data.test_images == np.stack([picture(50 + 100 * n + i) for n in range(3) for i in range(2)])).all()
    assert data.test_labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_a_flat_folder_holds_a_balanced_test_set_out(tmp_path):
    plant(tmp_path, {"ant": 6, "bee": 7, "train": 8})  # a class may well be called train
    data = make_longtail("d", folder_config(tmp_path, n_max=4, test_per_class=2))
    assert data.class_counts.tolist() == [4, 2, 2] and data.test_labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert data.class_names == ("ant", "bee", "train")
    shown = [image.tobytes() for image in (*data.train_images, *data.test_images)]
    assert len(set(shown)) == 14
    again = make_longtail("d", folder_config(tmp_path, n_max=4, test_per_class=2))
    assert again.digest == data.digest


def test_grey_palette_and_transparent_files_become_rgb(tmp_path):
    plant(tmp_path, {"ant": 3, "bee": 3, "cat": 3}, ".jpg")
    Image.new("L", (8, 8), 200).save(tmp_path / "ant" / "000.jpg")
    Image.new("P", (8, 8), 0).save(tmp_path / "bee" / "000.PNG")
    Image.new("RGBA", (8, 8), (10, 20, 30, 0)).save(tmp_path / "cat" / "000.png")
    source = sources._imagefolder(folder_config(tmp_path, test_per_class=1), "d")
    shapes = {source.train(np.array([i])).shape for i in range(len(source.train_labels))}
    assert shapes == {(1, 8, 8, 3)} and len(source.train_labels) + len(source.test_labels) == 11


def test_image_size_resizes_the_shorter_side_and_crops_the_centre(tmp_path):
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, :20], wide[:, 20:40], wide[:, 40:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    Image.fromarray(wide.transpose(1, 0, 2)).save(tmp_path / "tall.png")
    for name in ("wide", "tall"):
        small = sources._decode(tmp_path / f"{name}.png", 10)
        assert small.shape == (10, 10, 3)
        assert (small[2:-2, 2:-2] == (0, 255, 0)).all()  # the middle third
    odd = sources._decode(tmp_path / "wide.png", 7)
    assert odd.shape == (7, 7, 3)
    assert (sources._decode(tmp_path / "wide.png", None) == wide).all()


def sized(root: Path, train=(8, 8), one=(8, 8), test=(8, 8), **changes):
    plant(root / "train", {"ant": 3, "bee": 3, "cat": 3}, width=train[0], height=train[1])
    plant(root / "test", {"ant": 1, "bee": 1, "cat": 1}, width=test[0], height=test[1])
    Image.fromarray(picture(9, *one)).save(root / "train" / "ant" / "001.png")
    return make_longtail("d", folder_config(root, imbalance_factor=1.0, **changes))


def test_images_of_different_sizes_are_refused_unless_resized(tmp_path):
    error = told(lambda: sized(tmp_path / "a", one=(9, 8)))
    assert "9x8" in error and "8x8" in error
    assert "set datasets.d.image_size to resize them all" in error
    assert "training images are 8x8, test images 10x12; set image_size" in told(
        lambda: sized(tmp_path / "b", test=(10, 12))
    )
    data = sized(tmp_path / "c", one=(9, 8), test=(10, 12), image_size=6)
    assert data.train_images.shape == (9, 6, 6, 3) and data.test_images.shape == (3, 6, 6, 3)


def test_missing_folders_and_classes_are_named(tmp_path):
    assert told(lambda: make_longtail("d", folder_config(tmp_path / "x"))).endswith(
        "no such folder; datasets.d.raw names a folder of class folders"
    )
    assert "0 class folders found" in told(lambda: make_longtail("d", folder_config(tmp_path)))
    plant(tmp_path / "train", {"ant": 2, "bee": 2, "cat": 2})
    plant(tmp_path / "test", {"ant": 1, "bee": 1})
    assert f"{tmp_path / 'test' / 'cat'}: class with no image" in told(
        lambda: make_longtail("d", folder_config(tmp_path))
    )
    plant(tmp_path / "test" / "..", {"test/cat": 1, "test/dog": 1})
    assert f"{tmp_path / 'test' / 'dog'}: no such class in {tmp_path / 'train'}" in told(
        lambda: make_longtail("d", folder_config(tmp_path))
    )


def test_an_empty_class_folder_is_named(tmp_path):
    plant(tmp_path, {"ant": 3, "bee": 3, "cat": 0})
    assert f"{tmp_path / 'cat'}: class with no image; expected files ending in .jpg" in told(
        lambda: make_longtail("d", folder_config(tmp_path, test_per_class=1))
    )


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.6, 0.9])
def test_an_image_cut_short_is_named(tmp_path, suffix, kept):
    plant(tmp_path, {"ant": 3, "bee": 3}, suffix, width=32, height=32)
    victim = tmp_path / "bee" / f"001{suffix}"
    victim.write_bytes(victim.read_bytes()[: int(victim.stat().st_size * kept)])
    config = folder_config(tmp_path, imbalance_factor=1.0, n_max=2, test_per_class=1, cuts=[1, 2])
    assert f"{victim}: not a readable image, or cut short" in told(lambda: decode_all(config))


def decode_all(config: DatasetConfig) -> None:
    source = sources._imagefolder(config, "d")
    source.train(np.arange(len(source.train_labels)))
    source.test(np.arange(len(source.test_labels)))


# ---- CIFAR archives, in the official layout with a few made-up images


def pickled(path: Path, content: dict) -> tuple[str, str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content))
    return path.name, hashlib.md5(path.read_bytes()).hexdigest()


def raw_images(labels: np.ndarray, seed: int) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, (len(labels), 3072)).astype(np.uint8)


@pytest.fixture
def cifar10(tmp_path, monkeypatch) -> Path:
    """Five batches of 40 and a test batch of 20, with checksums that torchvision is told to expect."""
    from torchvision.datasets import CIFAR10

    folder, train = tmp_path / "cifar-10-batches-py", []
    for batch in range(5):
        labels = np.random.RandomState(batch).permutation(np.repeat(np.arange(10), 4))
        content = {"data": raw_images(labels, batch), "labels": labels.tolist()}
        train.append(pickled(folder / f"data_batch_{batch + 1}", content))
    labels = np.repeat(np.arange(10), 2)
    test = pickled(folder / "test_batch", {"data": raw_images(labels, 5), "labels": labels.tolist()})
    name, md5 = pickled(folder / "batches.meta", {"label_names": CIFAR10_CLASSES})
    monkeypatch.setattr(CIFAR10, "train_list", train)
    monkeypatch.setattr(CIFAR10, "test_list", [test])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": name, "key": "label_names", "md5": md5})
    return tmp_path


def test_cifar10_is_read_in_the_order_of_its_batches(cifar10):
    data = make_longtail("d", config_of("cifar10", raw=str(cifar10), imbalance_factor=10.0))
    assert data.class_names == tuple(CIFAR10_CLASSES)
    assert data.class_counts.tolist() == longtail_counts(20.0, 10, 10.0).tolist()
    labels = np.concatenate([np.random.RandomState(b).permutation(np.repeat(np.arange(10), 4)) for b in range(5)])
    images = np.concatenate([raw_images(labels[:40], b) for b in range(5)]).reshape(200, 3, 32, 32)
    expected = subsample(labels, data.class_counts, 0)
    assert data.train_index.tolist() == expected.tolist()
    assert (data.train_labels == labels[expected]).all()
    assert (data.train_images == images.transpose(0, 2, 3, 1)[expected]).all()
    assert data.test_labels.tolist() == np.repeat(np.arange(10), 2).tolist()
    held_out = raw_images(data.test_labels, 5).reshape(20, 3, 32, 32).transpose(0, 2, 3, 1)
    assert (data.test_images == held_out).all()


def test_cifar100_has_its_fine_labels(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR100

    folder, names, files = tmp_path / "cifar-100-python", [f"class {i:02}" for i in range(100)], []
    for name, copies in (("train", 2), ("test", 1)):
        labels = np.tile(np.arange(100), copies)
        content = {
            "data": raw_images(labels, copies),
            "fine_labels": labels.tolist(),
            "coarse_labels": (labels // 5).tolist(),
        }
        files.append(pickled(folder / name, content))
    meta, md5 = pickled(folder / "meta", {"fine_label_names": names, "coarse_label_names": names[:20]})
    monkeypatch.setattr(CIFAR100, "train_list", files[:1])
    monkeypatch.setattr(CIFAR100, "test_list", files[1:])
    monkeypatch.setattr(CIFAR100, "meta", {"filename": meta, "key": "fine_label_names", "md5": md5})
    data = make_longtail("d", config_of("cifar100", raw=str(tmp_path), imbalance_factor=2.0, cuts=[36, 71]))
    assert data.class_names == tuple(names) and data.class_counts.tolist() == [2] + [1] * 99
    assert data.test_labels.tolist() == list(range(100))
    assert [int((data.author_groups == g).sum()) for g in range(3)] == [36, 35, 29]


@pytest.mark.parametrize("file", ["data_batch_3", "test_batch", "batches.meta"])
@pytest.mark.parametrize("damage", ["wrong checksum", "missing"])
def test_a_damaged_cifar_file_is_named(cifar10, file, damage):
    path = cifar10 / "cifar-10-batches-py" / file
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1])
    error = told(lambda: make_longtail("d", config_of("cifar10", raw=str(cifar10))))
    assert error.startswith(f"{path}: {damage}") and "official archive" in error
    assert (damage == "missing") == ("set datasets.d.download: true" in error)


def test_nothing_is_fetched_unless_asked_for(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR10, utils

    asked = []

    def no_network(self):
        asked.append(self.root)
        raise OSError("no route\nto host")

    monkeypatch.setattr(CIFAR10, "download", no_network)
    monkeypatch.setattr(utils, "download_url", no_network)
    assert "missing" in told(lambda: make_longtail("d", config_of("cifar10", raw=str(tmp_path))))
    assert asked == []
    error = told(lambda: make_longtail("d", config_of("cifar10", raw=str(tmp_path), download=True)))
    assert asked == [str(tmp_path)] and error == f"datasets.d: cifar10 in {tmp_path}: no route to host"


# ---- the real CIFAR-10, as JPEG


def test_the_real_cifar10_has_the_published_long_tail():
    if not JPEGS.is_dir():
        pytest.skip("CIFAR-10 as JPEG is not unpacked in data/raw/cifar10_jpeg")
    source = sources._imagefolder(config_of("imagefolder", raw=str(JPEGS)), "d")
    assert source.class_names == CIFAR10_CLASSES
    assert np.bincount(source.train_labels).tolist() == [5000] * 10
    assert np.bincount(source.test_labels).tolist() == [1000] * 10
    counts = longtail_counts(len(source.train_labels) / 10, 10, 100.0)
    assert len(subsample(source.train_labels, counts, 0)) == 12406
    for decode in (source.train, source.test):
        images = decode(np.array([0, 4321, 9999]))
        assert images.shape == (3, 32, 32, 3) and images.dtype == np.uint8
        assert images.std(axis=(1, 2, 3)).min() > 5  # pictures, not blanks


def test_a_handful_of_real_jpegs(tmp_path):
    if not ARCHIVE.is_file():
        pytest.skip("the archive of CIFAR-10 as JPEG is not beside the repository")
    taken: dict[str, int] = {}
    with tarfile.open(ARCHIVE, "r|xz") as archive:
        for member in archive:
            _, *inside = Path(member.name).parts
            if member.isfile() and taken.setdefault(inside[0], 0) < 6:
                path = tmp_path.joinpath(*inside)
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(archive.extractfile(member).read())
                taken[inside[0]] += 1
            if list(taken.values()) == [6, 6, 6]:
                break
    data = make_longtail("d", folder_config(tmp_path, n_max=4, test_per_class=2, imbalance_factor=4.0, cuts=[1, 2]))
    assert data.class_names == tuple(CIFAR10_CLASSES[:3]) and data.class_counts.tolist() == [4, 2, 1]
    assert data.train_images.shape == (7, 32, 32, 3) and data.train_images.std(axis=(1, 2, 3)).min() > 5


def test_two_classes_of_a_source_in_the_order_that_is_asked_for():
    """DiVE's binary sets: images of the head and of the tail, the others gone from both splits."""
    digits = {"n_max": 100, "test_per_class": 40, "imbalance_factor": 10.0}
    whole = make_longtail("all", config_of("digits", **digits | {"imbalance_factor": 1.0}))
    two = make_longtail("two", config_of("digits", **digits, classes=[7, 2], cuts=[1, 1]))
    assert two.class_names == ("7", "2") and two.class_counts.tolist() == [100, 10] and two.num_classes == 2
    assert two.author_groups.tolist() == [0, 2]
    for mine, theirs in ((0, 7), (1, 2)):
        same = whole.test_images[whole.test_labels == theirs]
        assert np.array_equal(two.test_images[two.test_labels == mine], same) and len(same) == 40
        known = {image.tobytes() for image in whole.train_images[whole.train_labels == theirs]}
        kept = two.train_images[two.train_labels == mine]
        assert len(kept) == two.class_counts[mine] and len({i.tobytes() for i in kept} & known) > 0.5 * len(kept)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classes": [3]}, "classes [3]: at least two numbers from 0 on, each once, e.g. [0, 5]"),
        ({"classes": [3, 3]}, "classes [3, 3]: at least two numbers from 0 on, each once"),
        ({"classes": [-1, 3]}, "classes [-1, 3]: at least two numbers from 0 on"),
        ({"cuts": [1, 1]}, "cuts [1, 1] must rise from above 0"),
    ],
)
def test_wrong_classes_are_one_line(changes, said):
    with pytest.raises(UserError) as error:
        config_of("digits", **changes)
    assert said in str(error.value)


def test_a_class_that_the_source_lacks_is_one_line():
    with pytest.raises(UserError, match=r"datasets.two.classes: \[0, 10\], but the source has classes 0 to 9"):
        make_longtail("two", config_of("digits", n_max=100, test_per_class=40, classes=[0, 10], cuts=[1, 1]))
