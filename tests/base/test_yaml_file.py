"""The reader of YAML: what it reads is what DVC's own reader reads; a key twice and every fault is one line."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml
from ruamel.yaml import YAML

from longtail.base import yaml_file
from longtail.base.errors import UserError
from tests.helpers.root import ROOT

FILES = subprocess.run(
    ["git", "ls-files", "*.yaml", "*.yml", "*.lock", ".dvc/plots"], **{"cwd": ROOT, "text": True, "stdout": -1}
)
FILES = [name for name in FILES.stdout.split() if name != "requirements.lock"]
LOADERS = [yaml.SafeLoader, *([yaml.CSafeLoader] if hasattr(yaml, "CSafeLoader") else [])]
PLAIN = """
1e-3 5e-05 1E3 1.5e5 1.5E-5 0e0 1e400 1. .5 -.5 +1.5 .5e3 .5e+3 0.0 -0.0 1_000 1_0.5 1_e3 1e e5 .e1 ._1 _1 0.1.2 1,000
0123 -0123 08 00 0_ 1__0 0o17 -0o17 0o8 0O17 0o 0b101 0b2 0b 0x1F 0xg 0x +12 -0 + . ..
1:30 190:20:30 1:30.5 2026-01-01 2026-1-1 2026-01-01T10:00:00 2001-12-14T21:59:43.5Z .inf -.inf +.inf .INF .nan
.NaN nan inf ~ null Null NULL nUll none None true True TRUE tRue false FALSE yes Yes no NO on On off y n Y N
"""
SCALARS = [
    *PLAIN.split(),
    *("", "# nothing", '"1"', "'on'", '"a\\x41"', "'it''s'", "|\n  x\n  y", ">-\n  x\n  y", "&x 3"),
    *("!!str 1", '!!int "010"', '!!int "0o17"', "!!float 1", '!!float "1e-3"', "!!bool yes"),
    *("{a: 1, b: }", "{a}", "[a, ]", "[a: 1]", "{1: a, 2: b, ~: c}", "{1: a, '1': b}"),
]
DOCUMENTS = [
    "",
    "# a comment\n",
    "a: 1 # x\r\nb: 2\r\n",
    "on: x\nnull: y\n2026-01-01: z\n",
    "x: &x {a: 1, b: 2}\ny: {<<: *x, a: 3}\n",
    "x: &x {a: 1, b: 2}\ny: {a: 3, <<: *x}\n",
    "x: &x {a: 1}\nz: &z {<<: *x, a: 2}\ny: {<<: *z, a: 3}\n",
    "x: &x {a: 1}\nz: &z {a: 2, b: 3}\ny: {<<: [*x, *z]}\n",
    "y: {<<: &x {<<: {a: 1}, a: 2}}\nz: *x\n",
    "'<<': {a: 1}\n",
    "=: 1\n",
    "%YAML 1.1\n---\na: yes\nb: 010\n",
]


def theirs(text: str):
    """As DVC reads (dvc.utils.serialize.parse_yaml)."""
    return YAML(typ="safe").load(text)


@pytest.mark.parametrize("base", LOADERS)
def test_scalars_and_documents_are_read_as_dvc_reads_them(base):
    for text in [*(f"v: {scalar}\n" for scalar in SCALARS), *DOCUMENTS]:
        read, expected = yaml_file.parse(text, "f", base), theirs(text)
        assert repr(read) == repr(expected) or (read == expected and "datetime" in repr(read)), text


@pytest.mark.parametrize("name", FILES)
def test_every_file_of_the_repository_is_read_as_dvc_reads_it(name):
    assert yaml_file.read(ROOT / name) == theirs((ROOT / name).read_text(encoding="utf-8"))


def test_what_dvc_writes_is_read(tmp_path):
    """`dvc exp run -S lr=0.00005`: the round trip by which DVC edits a params file."""
    from dvc.utils.serialize import modify_yaml

    path = tmp_path / "params.yaml"
    path.write_text("train: {lr: 5.0e-4, warm: true, name: a}\n")
    with modify_yaml(str(path)) as values:
        values["train"] |= {"lr": 0.00005, "big": 1e22, "name": "1e-3", "word": "on", "zeros": "010"}
    assert "lr: 5e-05" in path.read_text()
    expected = {"lr": 5e-05, "warm": True, "name": "1e-3", "big": 1e22, "word": "on", "zeros": "010"}
    assert yaml_file.read(path)["train"] == expected


TWICE = {
    "a: 1\nb: 2\na: 3\n": "line 3, column 1: 'a' stands twice in the file, first in line 1; keep one",
    "recipes:\n  tiny:\n    train: {lr: 0.1, lr: 0.05}\n": "line 3, column 22: 'lr' stands twice in recipes.tiny.train",
    "x: &x {a: 1}\ny: {<<: *x, b: 2, b: 3}\n": "line 2, column 19: 'b' stands twice in y",
    "x: &x {a: 1}\nz: &z {b: 1}\ny: {<<: *x, <<: *z}\n": "line 3, column 13: '<<' stands twice in y",
    "rows:\n- {a: 1}\n- {b: {'c': 1, c: 2}}\n": "line 3, column 16: 'c' stands twice in rows[1].b",
    "{1: a, 0x1: b}\n": "line 1, column 8: '0x1' stands twice in the file",
    "y: {<<: {a: 1, a: 2}}\n": "line 1, column 16: 'a' stands twice in y.<<",
}


@pytest.mark.parametrize("base", LOADERS)
@pytest.mark.parametrize("text", TWICE)
def test_a_key_that_stands_twice_is_told_with_its_place(text, base):
    with pytest.raises(UserError) as told:
        yaml_file.parse(text, "params.yaml", base)
    assert str(told.value).startswith(f"params.yaml: {TWICE[text]}") and "\n" not in str(told.value)


WRONG = {
    "a: [}\n": "line 1, column 5: ",
    "a: 'x\n": "line 2, column 1: while scanning a quoted scalar found unexpected end of stream",
    "a: 1\n---\nb: 2\n": "line 2, column 1: expected a single document in the stream but found another document",
    "a: *x\n": "line 1, column 4: found undefined alias",
    "a: !!python/name:os.system x\n": "line 1, column 4: could not determine a constructor for the tag",
    "a: !!set {x}\n": "line 1, column 4: could not determine a constructor for the tag",
    "a: <<\n": "line 1, column 4: could not determine a constructor for the tag",
    "a: 2026-13-01\n": "line 1, column 4: '2026-13-01' is no timestamp",
    "a: 0x_\n": "line 1, column 4: '0x_' is no int",
    "a: ._\n": "line 1, column 4: '._' is no float",
    "a: !!bool maybe\n": "line 1, column 4: 'maybe' is no bool",
    "{<<: 3}\n": "line 1, column 6: while constructing a mapping expected a mapping or list of mappings for merging",
    "? {a: b}\n: 1\n": "line 1, column 3: while constructing a mapping found unhashable key",
    "a: \x07\n": "control characters are not allowed",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_yaml_is_told_with_its_place(text):
    with pytest.raises(UserError) as told:
        yaml_file.parse(text, "f")
    assert str(told.value).startswith("f: not valid YAML: ") and WRONG[text] in str(told.value)
    assert "\n" not in str(told.value)


def test_a_file_is_missing_or_not_utf_8_or_no_block(tmp_path):
    path = tmp_path / "f.yaml"

    def told(read=yaml_file.read) -> str:
        with pytest.raises(UserError) as error:
            read(path, "train again")
        return str(error.value)

    assert told() == f"{path}: no such file; train again"
    path.write_bytes(b"a: \xe9\n")
    assert told() == f"{path}: not valid YAML: byte 3 is not UTF-8; train again"
    path.write_text("a: 1\na: 2\n")
    assert told().endswith("keep one; train again")
    path.write_text("- a\n")
    assert told(yaml_file.mapping) == f"{path}: expected a block of keys, found list; train again"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")  # a byte order mark
    assert yaml_file.mapping(path) == {"a": 1}


def test_what_is_dumped_is_read_back_by_both_dialects():
    """Texts that look like numbers or words of either dialect come back as texts."""
    texts = [*SCALARS, "12e3", "089", "x"]
    value = {
        "texts": texts,
        "numbers": [1, 1.0, 1e-05, 5e20, -3, True, None, float("inf")],
        "keys": {"on": 1, "1e3": 2},
    }
    dumped = yaml_file.dump(value)
    assert yaml_file.parse(dumped, "f") == value == yaml.safe_load(dumped) == theirs(dumped)


def test_there_is_no_other_reader():
    """Every file that is ours is read here: PyYAML itself is called for writing alone."""
    pattern = r"yaml\.(safe_)?load(_all)?\(|yaml\.full_load|yaml\.unsafe_load"
    found = subprocess.run(
        ["git", "grep", "-lE", pattern, "--", "*.py", "*.smk", "Snakefile"], cwd=ROOT, text=True, stdout=-1
    )
    assert set(found.stdout.split()) <= {
        "tests/helpers/projects.py",
        "tests/base/test_yaml_file.py",
    }  # another program's own script


def test_it_loads_no_torch():
    check = "import sys, longtail.base.yaml_file, longtail.base.params; print({'torch', 'pydantic'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT, text=True, stdout=-1).stdout.strip() == "set()"
