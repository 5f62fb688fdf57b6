"""What a target needs, read from dvc.yaml."""

from __future__ import annotations

import pytest

from longtail.base.errors import UserError
from longtail.base.params import files, load_all, own
from longtail.cost.upstream import needed_by, stages
from tests.helpers.root import ROOT

PIPELINE = """
stages:
  make:
    foreach: ${items}
    do:
      cmd: make ${key}
      deps: [make.py, "raw/${item.raw}"]
      outs: ["data/${key}": {persist: true}]
  measure:
    foreach: ${items}
    do:
      cmd: measure ${key}
      deps: ["data/${key}"]
      outs: ["reports/${item.study}/${key}.json": {cache: false}]
  report:
    foreach: ${studies}
    do:
      cmd: report ${key}
      deps: ["reports/${key}"]
      outs: ["reports/${key}.html"]
"""
ITEMS = {
    name: {"raw": name[0], "study": study, "seeds": [0, 1]} for name, study in (("a1", "s"), ("a2", "s"), ("b1", "z"))
}


@pytest.fixture
def known(tmp_path):
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    return stages(tmp_path / "dvc.yaml", {"items": ITEMS, "studies": {"s": {}, "z": {}}})


def names(found) -> list[str]:
    return [stage.name for stage in found]


def test_a_study_needs_its_own_items_each_after_its_inputs(known):
    assert names(needed_by("s", known)) == ["make@a1", "measure@a1", "make@a2", "measure@a2", "report@s"]
    assert names(needed_by("report@z", known)) == ["make@b1", "measure@b1", "report@z"]
    assert names(needed_by("measure@a2", known)) == ["make@a2", "measure@a2"]


def test_an_item_of_a_list_is_named_by_its_number(tmp_path):
    (tmp_path / "dvc.yaml").write_text(PIPELINE.replace("${item.raw}", "${item.raw[1]}"))
    found = stages(tmp_path / "dvc.yaml", {"items": {"a": {"raw": ["x", "y"], "study": "s"}}, "studies": {"s": {}}})
    assert found["make@a"].deps == ("make.py", "raw/y")


SOURCES = PIPELINE.replace("raw/${item.raw}", "raw/${item.sources[0]}")


@pytest.mark.parametrize(
    ("pipeline", "sections", "message"),
    [
        (PIPELINE, {"items": ITEMS}, "params.yaml: no section studies, which dvc.yaml goes over; write studies: {}"),
        (PIPELINE, {"items": {"a": {"study": "s"}}}, "items.a.raw: missing; make of dvc.yaml fills it in"),
        (
            SOURCES,
            {"items": {"a": {}}},
            "items.a.sources: missing or shorter than five; make of dvc.yaml fills",
        ),
        (SOURCES, {"items": {"a": {"sources": []}}}, r"write sources: \[none, none, none, none, none\]"),
    ],
)
def test_what_dvc_would_miss_is_told(tmp_path, pipeline, sections, message):
    (tmp_path / "dvc.yaml").write_text(pipeline)
    with pytest.raises(UserError, match=message):
        stages(tmp_path / "dvc.yaml", sections)


def test_every_folder_has_what_its_pipeline_fills_in():
    for path in files(ROOT).values():
        assert stages(path.with_name("dvc.yaml"), own(path))


def test_what_a_stage_is(known):
    stage = known["make@a1"]
    assert (stage.kind, stage.entry, stage.deps, stage.outs) == ("make", "a1", ("make.py", "raw/a"), ("data/a1",))
    assert stage.seeds == (0, 1) and known["report@s"].seeds == ()


def test_finished_means_every_seed_is_there(known, tmp_path):
    make = known["make@a1"]
    assert not make.finished(tmp_path)
    (tmp_path / "data/a1/seed0").mkdir(parents=True)
    assert not make.finished(tmp_path)
    (tmp_path / "data/a1/seed1").mkdir()
    assert make.finished(tmp_path)
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/s.html").write_text("")
    assert known["report@s"].finished(tmp_path) and not known["report@z"].finished(tmp_path)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("make@a3", "no study or stage 'make@a3'; did you mean 'make@a"),
        ("qqqqq", "no study or stage 'qqqqq'; a study is a name under `studies`"),
    ],
)
def test_a_target_that_is_not_there(known, target, message):
    with pytest.raises(UserError, match=message):
        needed_by(target, known)


@pytest.mark.parametrize("text", ["stages: {a: {cmd: b}}", "- 1", ""])
def test_a_file_that_is_no_such_pipeline(tmp_path, text):
    (tmp_path / "dvc.yaml").write_text(text)
    with pytest.raises(UserError, match=r"dvc\.yaml: no pipeline of `foreach` stages"):
        stages(tmp_path / "dvc.yaml", {})
    (tmp_path / "dvc.yaml").write_text("stages: [")
    with pytest.raises(UserError, match=r"dvc\.yaml: not valid YAML: line"):
        stages(tmp_path / "dvc.yaml", {})
    with pytest.raises(UserError, match=r"nowhere.yaml: no such file"):
        stages(tmp_path / "nowhere.yaml", {})


def test_the_quickstart():
    """README: 2 teachers, 3 caches of labels, 5 students."""
    params = load_all(ROOT)
    found = names(needed_by("digits", stages(ROOT / "dvc.yaml", params)))
    kinds = [name.partition("@")[0] for name in found]
    assert [kinds.count(k) for k in ("subsample", "train_teacher", "cache_logits", "train_student")] == [1, 2, 3, 5]
    assert found[0] == "subsample@digits_if20" and found[-1] == "report@digits"
    assert found.index("train_teacher@ldam_drw-digits_if20") < found.index("cache_logits@ldam_drw-digits")
