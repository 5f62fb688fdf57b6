"""A study's entry in params.yaml is checked when it is read."""

from __future__ import annotations

import copy
import re
import typing

import pytest

from longtail.base import params, yaml_file
from longtail.base.errors import UserError
from longtail.evaluation.metrics import EXPERTS, SCALARS
from longtail.evaluation.shifts import TESTS
from longtail.report.published import printed_cells, printed_curve
from longtail.report.study import COLUMN_LABELS, ON_VIEWS, SHIFTS, Column, StudyConfig
from tests.helpers.reporting import PUBLISHED, study, study_dict
from tests.helpers.root import ROOT, params_table


def test_columns_are_the_metrics():
    assert set(typing.get_args(Column)) == set(SCALARS) | {ON_VIEWS, EXPERTS} | set(SHIFTS) == set(COLUMN_LABELS)
    assert tuple(f"{direction}-{factor}" for direction, factor in TESTS) == SHIFTS


def test_builds_from_yaml():
    built = params.build(StudyConfig, yaml_file.parse(yaml_file.dump(study_dict()), "dumped"), "studies.s")
    assert built == study()
    assert built.tables[1].rows[0].printed.imbalance == 100


def changed(path: list, value) -> dict:
    values = copy.deepcopy(study_dict())
    at = values
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return values


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["tables", 0, "columns"], ["tpo1"], "'tpo1' is not one of .*did you mean 'top1'"),
        (["tables", 0, "rows", 1, "entry"], "s-vti", "entry 's-vti' is not listed in the study"),
        (["tables", 0, "rows", 0, "teacher"], "s-vit", "teacher 's-vit' is not listed"),
        (["tables", 0, "rows", 0, "entry"], "s-vit", "names an entry and a teacher"),
        (["tables", 0, "rows", 0, "head"], "mean", "'mean' is not one of avg, cls, dist"),
        (["tables", 1, "name"], "overall", "tables names 'overall' twice"),
        (["teachers", 0, "label"], "ViT", "label 'ViT' stands for s-vit and t; figures tell"),
        (["tables", 1, "name"], "../x", "it is a file name"),
        (["tables", 0, "rows"], [], "at least one column and one row"),
        (["tables", 0, "rows", 0, "printed", "imbalance"], "100", "expected int, found '100'"),
        (["comparable"], "yes", "expected bool"),
        (["figures"], {"rolout": ["s-vit"]}, "figures.rolout: no such figure; did you mean 'rollout'"),
        (["figures"], {"rollout": ["s-vti"]}, "figures.rollout: 's-vti' is not listed .*did you mean 's-vit'"),
        (["figures"], {"entropy": ["s-vit"]}, "figures.entropy: 's-vit' is not listed in the study; valid: c"),
        (["tables", 0, "rows", 1, "cache"], "k", "cache 'k' is not listed"),
        (["tables", 0, "rows", 1, "copied"], True, "'ViT' is copied: it has printed numbers and no run"),
        (
            ["tables", 1, "columns"],
            ["top1", "forward-50"],
            "of shifted test sets stand in a table of their own",
        ),
        (
            ["tables", 0, "rows", 1, "correction"],
            "from_uniform",
            "'ViT': correction is of columns such as forward-50",
        ),
        (
            ["smoothing"],
            [{"title": "A", "teachers": [[0.1, "s-vit"]]}],
            "smoothing 'A': 's-vit' is not listed .*: t",
        ),
        (
            ["sweeps"],
            [{"title": "A", "setting": "x", "lines": [{"label": "L", "teachers": [[0.1, "s-vit"]]}]}],
            "sweeps 'A': 's-vit' is not listed .*: t",
        ),
        (
            ["sweeps"],
            [{"title": "A", "setting": "x", "log": True, "lines": [{"label": "L", "teachers": [[0.0, "t"]]}]}],
            "'A': 0 has no place on a logarithmic axis",
        ),
        (
            ["sweeps"],
            [{"title": "A", "setting": "x", "lines": [{"label": "L", "teachers": [[2.0, "t"], [1.0, "t"]]}]}],
            r"line 'L': values \[2.0, 1.0\] must rise",
        ),
        (["sweeps"], [{"title": "A", "setting": "x", "lines": []}], r"'A': lines \[\]; at least one"),
        (["tables", 0, "rows", 1, "groups"], "rank", "'rank' is not one of author, count"),
    ],
)
def test_mistakes_are_told(path, value, message):
    with pytest.raises(UserError, match=message):
        params.build(StudyConfig, changed(path, value), "studies.s")


def test_a_figure_shows_what_it_is_told_in_that_order_or_all():
    chosen = study(figures={"rollout": ["s-deit_lt"], "groups": ["s-deit_lt", "t"], "entropy": []})
    assert [item.name for item in chosen.shown("rollout")] == ["s-deit_lt"]
    assert [item.name for item in chosen.shown("groups")] == ["s-deit_lt", "t"]
    assert chosen.shown("entropy") == ()
    assert [item.name for item in chosen.shown("feature_rank")] == ["s-vit", "s-deit_lt"]
    assert [item.name for item in study().shown("entropy")] == ["c"]
    for figure in ("neighbours", "predictions"):
        assert study().shown(figure) == () and [i.name for i in study().candidates(figure)] == ["t"]


def test_printed_curves_need_a_comparable_study():
    curves = [{"figure": "cls_dist_distance", "label": "x", "method": "y"}]
    with pytest.raises(UserError, match="comparable"):
        study(comparable=False, curves=curves)
    assert study(curves=curves).curves[0].method == "y"


STUDIES = params_table().get("studies") or {}


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_names_entries_that_exist_and_cells_that_are_printed(name):
    """The studies of params.yaml itself: a typo in a selector is found here, not after the training."""
    values = params.load_all(ROOT)
    built = params.build(StudyConfig, STUDIES[name], f"studies.{name}")
    for section in ("experiments", "teachers", "caches"):
        missing = {item.name for item in getattr(built, section)} - set(values[section])
        assert not missing, (section, missing)
    for table in built.tables:
        for row in table.rows:
            if row.printed:
                assert printed_cells(PUBLISHED, row.printed, table.columns, f"{table.name}, {row.label}")
    for curve in built.curves:
        assert len(printed_curve(PUBLISHED, curve)) > 2


DATA = re.compile(r"digits|CIFAR-10|CIFAR-100|ImageNet-LT|ImageNet-BAL|iNaturalist 201[78]|Places-LT")


def test_captions_of_tables_say_which_images():
    """A caption is all that a table takes along into a paper."""
    for name, entry in params.load(None)["studies"].items():
        for table in params.build(StudyConfig, entry, f"studies.{name}").tables:
            assert DATA.search(table.caption) and table.caption.endswith("."), f"{name}, {table.name}: {table.caption}"
