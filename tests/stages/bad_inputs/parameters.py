"""Bad params files: what YAML lets pass, and names that tools would take for something else."""

from __future__ import annotations

SOUND = """\
datasets:
  own:
    source: list
    raw: data/raw
    imbalance_factor: null
    n_max: null
    subset_seed: 0
    cuts: [1, 2]
    test_per_class: null
    image_size: null
    download: false
    files:
      {train: train.txt, val: null, test: test.txt, images: data/images, labels: natural, short_side: null, pack: null,
       classes: null, train_images: null, val_images: null, test_images: null, largest: null, smallest: null}
"""
RULE = "cannot be a target of DVC and a word of a command; in names use letters without accents"


def changed(old: str, new: str) -> str:
    assert old in SOUND
    return SOUND.replace(old, new, 1)


def entry(name: str) -> str:
    """A second entry of that name, as it stands in the file."""
    return f"{SOUND}  {name}: {{}}\n"


ROWS: dict[str, tuple[str | bytes, str]] = {
    "a key twice": (
        changed("n_max: null", "n_max: 5\n    n_max: null"),
        "line 7, column 5: 'n_max' stands twice in dat",
    ),
    "an entry twice": (SOUND + SOUND.partition("\n")[2], "'own' stands twice in datasets, first in line 2; keep one"),
    "a section twice": (SOUND + "datasets: {}\n", "'datasets' stands twice in the file, first in line 1; keep one"),
    "a key twice in a row": (changed("pack: null", "pack: null, pack: x"), "'pack' stands twice in datasets.own.files"),
    "1.7 for a whole number": (changed("subset_seed: 0", "subset_seed: 1.7"), "datasets.own.subset_seed: expected int"),
    "true for a whole number": (
        changed("subset_seed: 0", "subset_seed: true"),
        "subset_seed: expected int, found True",
    ),
    "text for a number": (
        changed("subset_seed: 0", "subset_seed: '0'"),
        "subset_seed: expected int, found '0' (str); w",
    ),
    "yes for a switch": (
        changed("download: false", "download: no"),
        "datasets.own.download: expected bool, found 'no'",
    ),
    "a date for a text": (
        changed("raw: data/raw", "raw: 2026-01-01"),
        "datasets.own.raw: 2026-01-01 is a date; for a t",
    ),
    "an unknown key": (changed("n_max:", "nmax:"), "datasets.own.nmax: unknown key; did you mean 'n_max'?"),
    "an unknown source": (changed("source: list", "source: lst"), "datasets.own.source: 'lst' is not one of digits"),
    "a section of another shape": (
        "datasets: [own]\n",
        "params.yaml: datasets: expected a block of entries, found list",
    ),
    "an unknown section": (SOUND + "dataset: {}\n", "unknown section 'dataset'; did you mean 'datasets'?"),
    "a section that is a number": (SOUND + "3: {}\n", "unknown section '3'"),
    "a dot in a name": (entry("own.v2"), f"params.yaml: datasets: 'own.v2' {RULE}"),
    "a blank in a name": (entry("own v2"), f"params.yaml: datasets: 'own v2' {RULE}"),
    "a name that is a number": (
        entry("2024"),
        "datasets: the name 2024 is a int, not a text; begin it with a letter: e",
    ),
    "a name of digits": (entry("'2024'"), f"params.yaml: datasets: '2024' {RULE}"),
    "a name that is true": (
        entry("true"),
        "datasets: the name True is a bool, not a text; begin it with a letter: eTr",
    ),
    "a name that is null": (entry("~"), "datasets: the name None is a NoneType, not a text"),
    "a name that is a date": (entry("2026-01-01"), "datasets: the name 2026-01-01 is a date, not a text; begin it w"),
    "a name like an option": (entry("-out"), f"params.yaml: datasets: '-out' {RULE}"),
    "a name with a command": (entry("'a;ls'"), f"params.yaml: datasets: 'a;ls' {RULE}"),
    "a name with a dollar": (entry("a$b"), f"params.yaml: datasets: 'a$b' {RULE}"),
    "a name with a path": (entry("a/b"), f"params.yaml: datasets: 'a/b' {RULE}"),
    "a name with an accent": (entry("K\xe4fer"), f"params.yaml: datasets: 'K\xe4fer' {RULE}"),
    "Latin-1": (SOUND.replace("data/raw", "data/r\xe4w").encode("latin-1"), "params.yaml: not valid YAML: byte "),
    "a web page": ("<!DOCTYPE html><html>a: b: c</html>\n", "params.yaml: not valid YAML: line 1"),
    "no block": ("just text\n", "params.yaml: expected sections"),
    "a tab": (changed("    raw", "\traw"), "params.yaml: not valid YAML: line "),
    "an alias of itself": ("datasets: &d {own: *d}\n", "datasets.own"),
    "a huge number of classes": (
        changed("classes: null", "classes: 1000000000000000"),
        "7 images, fewer than its 10000",
    ),
}
