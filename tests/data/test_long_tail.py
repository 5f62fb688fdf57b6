from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from longtail.base.errors import UserError
from longtail.data.long_tail import (
    LongTail,
    author_groups,
    check_class_order,
    check_labels,
    class_order,
    content_digest,
    count_groups,
    longtail_counts,
    subsample,
)

# METHODS 1.1, printed there from the published code
CIFAR10 = {  # imbalance factor: counts, images of head / mid / tail at cuts 3 and 7
    10: ("5000 3871 2997 2320 1796 1391 1077 834 645 500", (11868, 6584, 1979)),
    20: ("5000 3584 2569 1842 1320 946 678 486 348 250", (11153, 4786, 1084)),
    50: ("5000 3237 2096 1357 878 568 368 238 154 100", (10333, 3171, 492)),
    100: ("5000 2997 1796 1077 645 387 232 139 83 50", (9793, 2341, 272)),
    200: ("5000 2775 1540 854 474 263 146 81 45 25", (9315, 1737, 151)),
}
CIFAR10_TOTALS = {10: 20431, 20: 17023, 50: 13996, 100: 12406, 200: 11203}
CIFAR100 = {  # imbalance factor: total, smallest, images of head / mid / tail at cuts 36 and 71, many / medium / few
    10: (19573, 50, (12317, 5224, 2032), (69, 31, 0)),
    20: (15907, 25, (11110, 3669, 1128), (53, 47, 0)),
    50: (12608, 10, (9776, 2314, 518), (41, 41, 18)),
    100: (10847, 5, (8922, 1639, 286), (35, 35, 30)),
    200: (9502, 2, (8180, 1166, 156), (30, 31, 39)),
}
CIFAR100_LISTS = {
    100: """500 477 455 434 415 396 378 361 344 328 314 299 286 273 260 248 237 226 216 206 197 188 179 171 163 156 149
        142 135 129 123 118 112 107 102 98 93 89 85 81 77 74 70 67 64 61 58 56 53 51 48 46 44 42 40 38 36 35 33 32 30 29
        27 26 25 24 23 22 21 20 19 18 17 16 15 15 14 13 13 12 12 11 11 10 10 9 9 8 8 7 7 7 6 6 6 6 5 5 5 5""",
    50: """500 480 462 444 426 410 394 379 364 350 336 323 311 299 287 276 265 255 245 235 226 218 209 201 193 186 178
        172 165 158 152 146 141 135 130 125 120 115 111 107 102 98 95 91 87 84 81 78 75 72 69 66 64 61 59 56 54 52 50 48
        46 44 43 41 39 38 36 35 34 32 31 30 29 27 26 25 24 23 22 22 21 20 19 18 18 17 16 16 15 14 14 13 13 12 12 11 11
        10 10 10""",
}


def per_group(values: np.ndarray, groups: np.ndarray) -> tuple[int, ...]:
    return tuple(int(values[groups == g].sum()) for g in range(3))


@pytest.mark.parametrize("factor", CIFAR10)
def test_cifar10_counts_are_the_published_ones(factor):
    printed, images = CIFAR10[factor]
    counts = longtail_counts(5000.0, 10, float(factor))
    assert counts.dtype == np.int64 and counts.tolist() == [int(n) for n in printed.split()]
    assert counts.sum() == CIFAR10_TOTALS[factor] and counts[0] / counts[-1] == factor
    groups = author_groups(10, (3, 7))
    assert groups.tolist() == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2]  # 3/4/3 for every imbalance factor (trap 46)
    assert per_group(counts, groups) == images


@pytest.mark.parametrize("factor", CIFAR100)
def test_cifar100_counts_and_both_group_rules_are_the_published_ones(factor):
    total, smallest, images, by_count = CIFAR100[factor]
    counts = longtail_counts(500.0, 100, float(factor))
    assert (counts.sum(), counts[0], counts[-1]) == (total, 500, smallest)
    if factor in CIFAR100_LISTS:
        assert counts.tolist() == [int(n) for n in CIFAR100_LISTS[factor].split()]
    groups = author_groups(100, (36, 71))
    assert np.bincount(groups).tolist() == [36, 35, 29] and (np.diff(groups) >= 0).all()
    assert per_group(counts, groups) == images
    assert np.bincount(count_groups(counts), minlength=3).tolist() == list(by_count)


def test_rounding_instead_of_truncating_changes_many_classes():
    """METHODS trap 3: 2 to 4 of the 10 classes, 46 to 57 of the 100."""
    changed = {}
    for classes, n_max in ((10, 5000.0), (100, 500.0)):
        for factor in CIFAR10:
            exact = n_max * float(factor) ** (-np.arange(classes) / (classes - 1))
            changed[classes, factor] = int((np.round(exact) != longtail_counts(n_max, classes, factor)).sum())
    assert {min(changed[10, f] for f in CIFAR10), max(changed[10, f] for f in CIFAR10)} == {2, 4}
    assert {min(changed[100, f] for f in CIFAR10), max(changed[100, f] for f in CIFAR10)} == {46, 57}


def test_one_class_and_no_imbalance_keep_everything():
    assert longtail_counts(7, 1, 100.0).tolist() == [7]
    assert longtail_counts(500, 4, 1.0).tolist() == [500] * 4


def test_the_count_rule_has_its_edges_at_100_and_20():
    counts = np.array([101, 100, 20, 19, 1])
    assert count_groups(counts).tolist() == [0, 1, 1, 2, 2]


# ---- which images are kept


def published_subset(labels: np.ndarray, counts: np.ndarray) -> list[int]:
    """LDAM:imbalance_cifar.py as METHODS 1.1 tells it: the global RNG, seeded when the dataset object is built."""
    np.random.seed(0)
    kept = []
    for label, count in zip(np.unique(labels), counts, strict=True):
        positions = np.where(labels == label)[0]
        np.random.shuffle(positions)
        kept.extend(positions[:count].tolist())
    return kept


@pytest.mark.parametrize(("classes", "factor"), [(10, 100), (10, 50), (100, 100)])
def test_the_subset_is_the_published_one_without_touching_the_global_generator(classes, factor):
    labels = np.random.RandomState(7).permutation(np.repeat(np.arange(classes), 50000 // classes))
    counts = longtail_counts(len(labels) / classes, classes, factor)
    np.random.seed(123)
    before = np.random.get_state()
    kept = subsample(labels, counts, 0)
    after = np.random.get_state()
    assert before[0] == after[0] and (before[1] == after[1]).all() and before[2:] == after[2:]  # trap 4
    try:
        assert kept.tolist() == published_subset(labels, counts)
        assert (np.random.get_state()[1] != after[1]).any()  # which the published way does not leave alone
    finally:
        np.random.set_state(before)
    assert (np.diff(labels[kept]) >= 0).all() and (np.bincount(labels[kept]) == counts).all()
    assert len(set(kept.tolist())) == counts.sum()


def test_the_subset_seed_chooses_the_images_and_never_their_number():
    labels = np.repeat(np.arange(10), 100)
    counts = longtail_counts(100, 10, 10.0)
    a, b = (subsample(labels, counts, seed) for seed in (0, 1))
    assert (labels[a] == labels[b]).all() and (a != b).any()
    assert sorted(a[:100]) == sorted(b[:100]) == list(range(100)) and (a[:100] != b[:100]).any()  # kept whole, shuffled


# ---- the file


def tiny(**changes) -> LongTail:
    """Three classes of 4, 2 and 1 training images, one test image each."""
    generator = np.random.RandomState(0)
    counts = np.array([4, 2, 1])
    names = changes.pop("class_names", ("cat", "dog", "emu"))
    values = {
        "name": "tiny",
        "train_images": generator.randint(0, 256, (7, 4, 4, 3)).astype(np.uint8),
        "train_labels": np.repeat(np.arange(3), counts),
        "train_index": np.arange(7),
        "test_images": generator.randint(0, 256, (3, 4, 4, 3)).astype(np.uint8),
        "test_labels": np.arange(3),
        "class_names": names,
        "class_counts": counts,
        "cuts": (1, 2),
        "author_groups": author_groups(3, (1, 2)),
        "count_groups": count_groups(counts),
        "subset_seed": 0,
        "class_order": class_order(names),
    } | changes
    draft = LongTail(**values, digest="")
    return replace(draft, digest=content_digest(draft))


def test_what_is_saved_is_loaded(tmp_path):
    data = tiny()
    data.save(tmp_path / "tiny.npz")
    loaded = LongTail.load(tmp_path / "tiny.npz")
    assert loaded.num_classes == 3
    for field in fields(data):
        before, after = getattr(data, field.name), getattr(loaded, field.name)
        assert type(before) is type(after), field.name
        assert np.array_equal(before, after), field.name
        if isinstance(before, np.ndarray):
            assert before.dtype == after.dtype, field.name


def test_the_digest_depends_on_every_field():
    changed = {
        "name": "other",
        "train_index": np.arange(7)[::-1],
        "class_names": ("dog", "cat", "emu"),
        "cuts": (1, 3),
        "subset_seed": 1,
        "test_labels": np.array([0, 1, 1]),
        "train_images": np.zeros((7, 4, 4, 3), np.uint8),
        "class_map": np.arange(3),
    }
    assert len({tiny().digest, *(tiny(**{k: v}).digest for k, v in changed.items())}) == len(changed) + 1


def load_error(path: Path) -> str:
    with pytest.raises(UserError) as error:
        LongTail.load(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    return str(error.value)


def test_a_missing_file_names_the_stage_that_makes_it(tmp_path):
    assert load_error(tmp_path / "tiny.npz").endswith("no such dataset file; make it with stages/subsample.py tiny")


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.999])
def test_a_file_cut_short_is_refused(tmp_path, kept):
    path = tmp_path / "tiny.npz"
    tiny().save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    assert "cut short or no dataset file" in load_error(path)


@pytest.mark.parametrize("content", [b"class,image\n0,1\n", b"\x80\x04K\x01.", b"PK\x05\x06" + bytes(18)])
def test_another_kind_of_file_is_refused(tmp_path, content):
    (tmp_path / "tiny.npz").write_bytes(content)
    assert "cut short or no dataset file" in load_error(tmp_path / "tiny.npz")


def test_a_damaged_byte_anywhere_is_refused_or_without_effect(tmp_path):
    path = tmp_path / "tiny.npz"
    data = tiny()
    data.save(path)
    whole, refused = path.read_bytes(), 0
    for position in range(0, len(whole), 7):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :])
        try:
            assert content_digest(LongTail.load(path)) == data.digest  # zip dates, paddings
        except UserError:
            refused += 1
    assert refused > len(whole) // 7 // 2


def test_an_altered_file_is_refused(tmp_path):
    data = tiny()
    replace(data, test_labels=np.array([0, 1, 1])).save(tmp_path / "tiny.npz")  # a whole file, but not what was made
    assert "wrong checksum" in load_error(tmp_path / "tiny.npz")


@pytest.mark.parametrize("label", [3, -1])
def test_a_label_out_of_range_is_refused(tmp_path, label):
    path = tmp_path / "tiny.npz"
    tiny(test_labels=np.array([0, 1, label])).save(path)
    assert load_error(path).endswith(f"test labels: label {label} out of range, 3 classes are 0 to 2")


def test_labels_are_checked_in_any_shape_and_type():
    check_labels(np.zeros(0, np.int64), 1, "here")
    check_labels(np.array([[0, 1], [2, 2]], np.uint8), 3, "here")
    with pytest.raises(UserError, match="here: label 3 out of range, 3 classes are 0 to 2"):
        check_labels(np.array([[0, 1], [3, 2]], np.uint8), 3, "here")


# ---- class order


def test_class_order_is_a_checksum_of_the_ordered_list():
    assert class_order(("cat", "dog")) == hashlib.sha256(b'["cat", "dog"]').hexdigest() == class_order(["cat", "dog"])
    assert len({class_order(n) for n in (["a", "b"], ["b", "a"], ["ab"], ["a", "b", "c"], ["a, b"])}) == 5


def test_another_class_order_is_refused_with_the_permutation_that_reconciles():
    data = tiny()  # cat, dog, emu
    check_class_order(data, class_order(["cat", "dog", "emu"]), None, "cache")
    other = ["emu", "cat", "dog"]
    with pytest.raises(UserError) as error:
        check_class_order(data, class_order(other), other, "cache")
    assert str(error.value).endswith("same classes, other order; its output column for class i is [1, 2, 0][i]")
    assert str(error.value).startswith(f"cache has class order {class_order(other)[:12]}, dataset tiny has ")
    assert [other[i] for i in (1, 2, 0)] == list(data.class_names)


@pytest.mark.parametrize("names", [None, ["cat", "dog", "fox"], ["cat", "dog"]])
def test_other_classes_are_refused_as_such(names):
    with pytest.raises(UserError, match="not the same classes"):
        check_class_order(tiny(), class_order(names or ["x"]), names, "teacher")
