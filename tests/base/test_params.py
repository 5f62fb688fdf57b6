from __future__ import annotations

import dataclasses
import itertools
import math
import shlex
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtail.base import params, yaml_file
from longtail.base.errors import UserError, nearest, run_main
from longtail.base.params import build, digest, entry, load, load_all, merge, plain
from longtail.data.config import DatasetConfig
from tests.helpers.properties import FEW, LINE, VALUES
from tests.helpers.root import ROOT


@dataclass(frozen=True)
class Inner:
    rate: float
    name: str = "a"


@dataclass(frozen=True)
class Outer:
    epochs: int
    lr: float
    on: bool
    kind: Literal["ce", "ldam"]
    cuts: tuple[int, int]
    seeds: tuple[int, ...]
    inner: Inner
    limit: int | None = None
    labels: dict[str, Inner] = field(default_factory=dict)
    rates: list[float] = field(default_factory=list)
    free: Any = None

    def __post_init__(self):
        if self.epochs < 1:
            raise ValueError("epochs must be at least 1")


GOOD = {
    "epochs": 3,
    "lr": 0.1,
    "on": True,
    "kind": "ce",
    "cuts": [3, 7],
    "seeds": [0, 1, 2],
    "inner": {"rate": 0.5},
}


def message(call) -> str:
    with pytest.raises(UserError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_good_block_becomes_a_typed_dataclass():
    built = build(Outer, GOOD | {"lr": 1, "labels": {"x": {"rate": 2}}, "rates": [1, 0.5], "limit": None}, "o")
    assert built.cuts == (3, 7) and built.seeds == (0, 1, 2) and built.inner == Inner(0.5, "a")
    assert type(built.lr) is float and built.lr == 1.0  # a whole number is a fine float
    assert built.labels == {"x": Inner(2.0)} and built.rates == [1.0, 0.5] and built.limit is None
    assert build(Outer, GOOD | {"limit": 4}, "o").limit == 4


@dataclass(frozen=True)
class Either:
    radius: float | tuple[tuple[int | None, float], ...] | None


@pytest.mark.parametrize("value", [None, 0.5, ((5, 0.1), (None, 0.5))])
def test_a_number_or_a_list_is_built_as_what_was_given(value):
    assert build(Either, plain({"radius": value}), "e").radius == value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("x", "e.radius: expected float or a list, found 'x' (str)"),
        ([[5, "x"]], "e.radius[0][1]: expected float"),
        ([5], "e.radius[0]: expected a list, found 5"),
        (True, "e.radius: expected float or a list, found True (bool)"),
        ({"a": 1}, "e.radius: expected float or a list, found {'a': 1}"),
    ],
)
def test_a_wrong_number_or_list_is_told_as_what_it_is(value, expected):
    assert message(lambda: build(Either, {"radius": value}, "e")).startswith(expected)


@dataclass(frozen=True)
class Union:
    one: int | str | bool
    two: Literal["auto"] | int = 0
    three: Inner | list[int] | None = None


@pytest.mark.parametrize("value", [3, "3", True, False, 0, "auto"])
def test_of_a_union_of_scalars_every_member_is_tried(value):
    built = build(Union, {"one": value, "three": [1]}, "u")
    assert built.one == value and type(built.one) is type(value)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"one": 0.5}, "u.one: expected int or str or bool, found 0.5 (float)"),
        ({"one": None}, "u.one: expected int or str or bool, found None (NoneType)"),
        ({"one": 1, "two": "aut"}, "u.two: expected auto or int, found 'aut' (str)"),
        ({"one": 1, "three": {"rat": 1.0}}, "u.three.rat: unknown key; did you mean 'rate'?"),
        ({"one": 1, "three": [1, "x"]}, "u.three[1]: expected int, found 'x' (str)"),
        ({"one": 1, "three": 7}, "u.three: expected a block of keys or a list, found 7"),
    ],
)
def test_a_value_that_fits_no_member_is_told_with_all_or_with_the_one_meant(values, expected):
    assert message(lambda: build(Union, values, "u")) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"name": date(2026, 1, 2)}, "o.name: 2026-01-02 is a date; for a text write it in quotes"),
        ({1: 0.5}, "o: the key 1 is no text; write it in quotes"),
        ({True: 0.5}, "o: the key True is no text; write it in quotes"),
    ],
)
def test_what_yaml_has_beside_text_numbers_and_lists_is_refused(values, expected):
    assert message(lambda: build(Inner, {"rate": 1} | values, "o")) == expected


def test_a_block_that_holds_itself_is_refused():
    values = {"rate": 1.0}
    values["name"] = values
    assert message(lambda: build(Inner, values, "o")) == "o: a block that holds itself"


def test_the_check_of_a_block_within_is_told_with_its_path():
    @dataclass(frozen=True)
    class Above:
        rows: tuple[Outer, ...]

    told = message(lambda: build(Above, {"rows": [GOOD, GOOD | {"epochs": 0}]}, "a"))
    assert told == "a.rows[1]: epochs must be at least 1"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"epoch": 3}, "o.epoch: unknown key; did you mean 'epochs'?"),
        ({"zzz": 3}, "o.zzz: unknown key; valid: epochs, lr, on,"),
        ({"lr": "1e-3"}, "o.lr: expected float, found '1e-3' (str); write 0.001"),
        ({"lr": "fast"}, "o.lr: expected float, found 'fast' (str)"),
        ({"lr": None}, "o.lr: expected float, found None (NoneType)"),
        ({"lr": True}, "o.lr: expected float, found True (bool)"),
        ({"epochs": True}, "o.epochs: expected int, found True (bool)"),
        ({"epochs": 3.0}, "o.epochs: expected int, found 3.0 (float); write 3"),
        ({"epochs": "1e3"}, "o.epochs: expected int, found '1e3' (str); write 1000"),
        ({"on": 1}, "o.on: expected bool, found 1 (int)"),
        ({"on": "1"}, "o.on: expected bool, found '1' (str)"),
        ({"kind": "lbam"}, "o.kind: 'lbam' is not one of ce, ldam; did you mean 'ldam'?"),
        ({"kind": 3}, "o.kind: 3 is not one of ce, ldam"),
        ({"cuts": [3]}, "o.cuts: expected 2 values, found 1"),
        ({"cuts": [3, 7, 9]}, "o.cuts: expected 2 values, found 3"),
        ({"cuts": [3, "7"]}, "o.cuts[1]: expected int, found '7' (str)"),
        ({"cuts": 3}, "o.cuts: expected a list, found 3"),
        ({"seeds": [0, True]}, "o.seeds[1]: expected int, found True (bool)"),
        ({"seeds": "012"}, "o.seeds: expected a list, found '012'"),
        ({"rates": ["x"]}, "o.rates[0]: expected float, found 'x' (str)"),
        ({"inner": 5}, "o.inner: expected a block of keys, found 5"),
        ({"inner": {"rate": "1e-3"}}, "o.inner.rate: expected float, found '1e-3'"),
        ({"inner": {"rate": 1.0, "nam": "b"}}, "o.inner.nam: unknown key; did you mean 'name'?"),
        ({"inner": {}}, "o.inner.rate: missing; Inner needs it"),
        ({"labels": [1]}, "o.labels: expected a block of keys, found [1]"),
        ({"labels": {"x": {"rate": None}}}, "o.labels.x.rate: expected float, found None"),
        ({"limit": "4"}, "o.limit: expected int, found '4' (str); write 4"),
        ({"epochs": 0}, "o: epochs must be at least 1"),
    ],
)
def test_a_wrong_value_is_named_by_its_path(change, expected):
    assert message(lambda: build(Outer, GOOD | change, "o")).startswith(expected)


@pytest.mark.parametrize("missing", list(GOOD))
def test_a_missing_key_is_named(missing):
    told = message(lambda: build(Outer, {k: v for k, v in GOOD.items() if k != missing}, "o"))
    assert told == f"o.{missing}: missing; Outer needs it"


@pytest.mark.parametrize("text", ["1e-3", "1e-5", "2e-8", "5e20", "1E22", ".5e3", "12"])
def test_the_proposed_number_is_one_that_yaml_reads_as_such(text):
    told = message(lambda: build(Inner, {"rate": text}, "o"))
    proposed = yaml_file.parse(told.rpartition("write ")[2], "text")
    assert isinstance(proposed, float) and proposed == float(text)


@pytest.mark.parametrize("text", ["nan", "inf", "fast"])
def test_no_number_is_proposed_where_there_is_none(text):
    assert "write" not in message(lambda: build(Inner, {"rate": text}, "o"))


# ---- the file


def write(folder: Path, text: str) -> Path:
    path = folder / "params.yaml"
    path.write_bytes(text.encode("latin-1"))
    return path


def test_a_file_is_read_and_its_entries_found(tmp_path):
    read = load(write(tmp_path, "datasets:\n  digits_if20: {source: digits}\nteachers:\n"))
    assert entry(read, "datasets", "digits_if20") == {"source": "digits"}
    assert (
        message(lambda: entry(read, "datasets", "digits_if2"))
        == "datasets.digits_if2: no such entry in params.yaml; did you mean 'digits_if20'?"
    )
    assert message(lambda: entry(read, "teachers", "t")) == "teachers.t: no such entry in params.yaml; valid: nothing"
    assert "valid: nothing" in message(lambda: entry(read, "caches", "c"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dataset:\n  a: {}\n", "unknown section 'dataset'; did you mean 'datasets'?"),
        ("- a\n- b\n", "expected sections"),
        ("", "expected sections"),
        ("datasets: {a: [}\n", "not valid YAML"),
        ("datasets: {a: \xe9}\n", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_params_file_is_refused(tmp_path, text, expected):
    told = message(lambda: load(write(tmp_path, text)))
    assert "params.yaml: " in told and expected in told


def test_a_missing_file_and_wrong_blocks_are_named(tmp_path):
    assert "no such file" in message(lambda: load(tmp_path / "params.yaml"))
    assert message(lambda: entry({"views": {"v": 3}}, "views", "v")) == "views.v: expected a block of keys, found 3"
    assert message(lambda: entry({"views": ["v"]}, "views", "v")) == "views: expected a block of entries, found list"
    assert message(lambda: build(Inner, [1], "o")) == "o: expected a block of keys, found [1]"


# ---- overrides


def test_an_override_replaces_single_numbers_and_leaves_the_rest():
    base = {"loss": {"alpha": 0.5, "drw_epoch": 1100}, "train": {"betas": [0.9, 0.999]}, "name": "a"}
    merged = merge(base, {"loss": {"drw_epoch": None}, "train": {"betas": [0.9, 0.95]}}, "e.set")
    assert merged == {"loss": {"alpha": 0.5, "drw_epoch": None}, "train": {"betas": [0.9, 0.95]}, "name": "a"}
    assert base["loss"]["drw_epoch"] == 1100  # untouched


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ({"loss": {"drw_epohc": 3}}, "e.set.loss.drw_epohc: unknown key; did you mean 'drw_epoch'?"),
        ({"los": {"drw_epoch": 3}}, "e.set.los: unknown key; did you mean 'loss'?"),
        ({"alpha": 3}, "e.set.alpha: unknown key; valid: loss"),
    ],
)
def test_an_override_of_an_unknown_key_is_refused(override, expected):
    assert message(lambda: merge({"loss": {"alpha": 0.5, "drw_epoch": 1}}, override, "e.set")) == expected


# ---- digest


def test_the_digest_does_not_depend_on_the_order_of_keys_and_does_on_every_value():
    orders = (dict(items) for items in itertools.permutations({"a": 1, "b": {"x": 1.0, "y": [1, 2]}, "c": "t"}.items()))
    assert len({digest(value) for value in orders}) == 1
    assert digest({"b": {"y": 1, "x": 2}}) == digest({"b": {"x": 2, "y": 1}})
    different = [{"a": 1}, {"a": 2}, {"b": 1}, {"a": [1]}, {"a": [1, 2]}, {"a": [2, 1]}, {"a": None}, {"a": "1"}]
    assert len({digest(value) for value in different}) == len(different)


def test_the_digest_of_a_dataclass_is_that_of_its_plain_form():
    built = build(Outer, GOOD, "o")
    assert digest(built) == digest(plain(built)) == digest(yaml_file.parse(yaml_file.dump(plain(built)), "dumped"))
    assert digest(built) != digest(build(Outer, GOOD | {"cuts": [3, 8]}, "o"))
    assert digest(Inner(1.0)) == "a938e0a99410ffd0adc60944acc800f3e9045b48eecdc80e1574e8cf1601f4ae"
    # printf '{"name":"a","rate":1.0}' | sha256sum


# ---- errors


def test_the_nearest_name_or_all_of_them():
    assert nearest("ldam_drv", ["ldam_drw", "ce"]) == "; did you mean 'ldam_drw'?"
    assert nearest("q", ["ldam", "ce"]) == "; valid: ldam, ce"
    assert nearest("q", []) == "; valid: nothing"


def test_a_user_error_is_one_line_and_code_2(capsys):
    def fail():
        raise UserError("what, where, what would be right")

    with pytest.raises(SystemExit) as end:
        run_main(fail)
    assert end.value.code == 2 and capsys.readouterr().err == "error: what, where, what would be right\n"
    with pytest.raises(SystemExit) as end:
        run_main(lambda: None)
    assert end.value.code == 0
    with pytest.raises(ZeroDivisionError):  # a bug keeps its traceback
        run_main(lambda: 1 / 0)


def test_the_repository_s_own_file_loads_with_all_its_sections():
    read = load_all(ROOT)
    assert set(read) == set(params.SECTIONS + params.FOR_DVC) and all(read.values())


# ---- names and values of any kind

SOUND = {"source": "digits", "raw": "data/none", "imbalance_factor": 20.0, "n_max": 130, "subset_seed": 0}
SOUND |= {"cuts": [3, 7], "test_per_class": 40, "image_size": None, "download": False}


@settings(FEW, max_examples=80)
@given(name=LINE | st.text(st.sampled_from("aZ_-0.$ ;'\"/\\\n"), max_size=5))
def test_a_name_that_is_taken_is_one_word_of_a_command_one_path_and_one_key_of_dvc(name, tmp_path_factory):
    """And one that is not is told in one line, with its section."""
    path = tmp_path_factory.getbasetemp() / "named.yaml"
    path.write_text(yaml_file.dump({"datasets": {name: {"a": 1}}}, allow_unicode=True), encoding="utf-8")
    try:
        read = load(path)
    except UserError as error:
        assert "\n" not in str(error) and f"{path}: datasets: {name!r} cannot be a target of DVC" in str(error)
        return
    assert read["datasets"] == {name: {"a": 1}}
    assert subprocess_words(f"python stages/x.py {name} --out data/{name}.npz") == [name, f"data/{name}.npz"]
    assert f"datasets.{name}".split(".") == ["datasets", name] and not name.startswith("-")


def subprocess_words(line: str) -> list[str]:
    """The arguments that a shell makes of a line."""
    _, _, first, _, out = shlex.split(line)
    return [first, out]


@FEW
@given(values=VALUES)
def test_any_value_of_an_entry_is_built_or_one_line(values):
    try:
        build(DatasetConfig, values, "datasets.d")
    except UserError as error:
        assert "\n" not in str(error)


@FEW
@given(key=st.sampled_from([field.name for field in dataclasses.fields(DatasetConfig)]), value=VALUES)
def test_any_value_of_one_key_is_built_as_it_is_or_told_with_its_path(key, value):
    try:
        found = build(DatasetConfig, SOUND | {key: value}, "datasets.d")
    except UserError as error:
        assert "\n" not in str(error) and str(error).startswith("datasets.d")
    else:
        assert plain(getattr(found, key)) == value or math.isclose(getattr(found, key), value)
