"""The published JSON Schemas: what the stages write and what is in git is valid; a wrong file is refused by name."""

from __future__ import annotations

import copy
import json
import runpy
from collections.abc import Callable

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from tests.helpers.made_up_runs import make
from tests.helpers.reporting import run_stage
from tests.helpers.root import ROOT
from tests.helpers.run_files import machines

SCHEMAS = {
    n: json.loads((ROOT / f"docs/schema/{n}.schema.json").read_text())
    for n in ("metrics", "run", "diagnostics", "machines")
}
OF_RUNS = ("metrics", "run", "diagnostics")  # what stages make of a run
_stage = runpy.run_path(str(ROOT / "stages/schema.py"))
MADE = {name: _stage["schema"](name) for name in _stage["FORMATS"]}
METRICS = sorted((ROOT / "reports/metrics").rglob("*.json"))
RUNS = sorted((ROOT / "reports/runs").rglob("*.json"))
MACHINES = sorted((ROOT / "reports/machines").glob("*.json"))


def error(name: str, found: dict) -> str | None:
    """Where and what the gravest error is; None of a valid file."""
    worst = best_match(Draft202012Validator(SCHEMAS[name]).iter_errors(found))
    return worst and f"{worst.json_path}: {worst.message}"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, dict]:
    """{"e/run": ...}: files of a student and of a teacher, made by the stages."""
    root = tmp_path_factory.mktemp("made")
    make(root)
    found = {}
    for entry, kind in (("e", "experiment"), ("t", "teacher")):
        given = (entry, "--kind", kind, "--run", root / entry, "--dataset", root / "d.npz", "--params")
        outs = ("--out", root / f"out/{entry}/metrics.json", "--details", root / "out" / entry)
        assert run_stage("evaluate", *given, root / "params.yaml", *outs) == 0
        found |= {f"{entry}/{name}": json.loads((root / f"out/{entry}/{name}.json").read_text()) for name in OF_RUNS}
    found["e/machines"] = machines(("experiments", "e", "a" * 64, 1))
    return found


@pytest.mark.parametrize("name", MADE)
def test_it_is_made_from_the_types_of_today(name):
    path = ROOT / f"docs/schema/{name}.schema.json"
    assert json.loads(path.read_text()) == MADE[name], "out of date: make schema"


@pytest.mark.parametrize("name", SCHEMAS)
def test_it_is_a_schema_with_a_closed_shape(name):
    """Every object with properties takes no others."""
    Draft202012Validator.check_schema(SCHEMAS[name])

    def walk(node) -> None:
        if isinstance(node, dict):
            if "properties" in node and "if" not in node and set(node["properties"]) != {"kind"}:
                assert node["additionalProperties"] is False, node.get("description")
            node = list(node.values())
        for child in node if isinstance(node, list) else []:
            walk(child)

    walk(SCHEMAS[name])


@pytest.mark.parametrize("path", METRICS, ids=lambda p: str(p.relative_to(ROOT / "reports/metrics")))
def test_committed_metrics_are_valid(path):
    assert error("metrics", json.loads(path.read_text())) is None


def test_committed_runs_are_valid():
    for path in RUNS:
        assert error(path.stem, json.loads(path.read_text())) is None, path


def test_committed_machines_are_valid():
    for path in MACHINES:
        assert error("machines", json.loads(path.read_text())) is None, path


@pytest.mark.parametrize("entry", ["e", "t"])
@pytest.mark.parametrize("name", OF_RUNS)
def test_what_the_stages_write_is_valid(made, entry, name):
    assert error(name, made[f"{entry}/{name}"]) is None


def put(where: str, value) -> Callable[[dict], None]:
    """A change: the value at a dotted path; None takes it away."""

    def change(found: dict) -> None:
        *parents, key = where.split(".")
        for parent in parents:
            found = found[int(parent)] if isinstance(found, list) else found[parent]
        if value is None:
            del found[key]
        else:
            found[int(key) if isinstance(found, list) else key] = value

    return change


WRONG = {
    "another version": ("metrics", put("schema", 2), "$.schema: 1 was expected"),
    "text for a number": ("metrics", put("seeds.0.last.cls.top1", "75"), "$.seeds['0'].last.cls.top1: '75' is not"),
    "a share for a percentage": (
        "metrics",
        put("summary.last.avg.top1.n", 0.5),
        "top1.n: 0.5 is not of type 'integer'",
    ),
    "an unknown metric": ("metrics", put("seeds.0.best.avg.auc", 1.0), "$.seeds['0'].best.avg: Additional properties"),
    "a metric that lacks": ("metrics", put("summary.best.cls.nll", None), "$.summary.best.cls: 'nll' is a required"),
    "an unknown kind": ("metrics", put("kind", "tables"), "$.kind: 'tables' is not one of"),
    "a seed of no number": ("metrics", put("seeds.first", {}), "'first' does not match"),
    "a seed in the configuration": ("run", put("config.seed", 3), "$.config: "),
    "a host": ("run", put("seeds.0.identity.hostname", "x"), "'hostname' was unexpected"),
    "a clock in the metrics": ("metrics", put("seeds.0.seconds", 1.5), "'seconds' was unexpected"),
    "a fact that is not told": ("machines", put("experiments.e.seeds.0.processor", None), "'processor' is a required"),
    "a record that names a host": ("machines", put("experiments.e.seeds.0.host", "x"), "'host' was unexpected"),
    "no commit": ("machines", put("experiments.e.seeds.0.git_commit", "main"), "'main' does not match"),
    "no curve of epochs": ("run", put("seeds.0.curves.epoch", None), "$.seeds['0'].curves: 'epoch' is a required"),
    "text in a curve": ("run", put("seeds.1.curves.loss.0", "x"), "$.seeds['1'].curves.loss[0]: 'x' is not of type"),
    "no hash": ("run", put("config_hash", "abc"), "$.config_hash: 'abc' does not match"),
    "another phase": ("diagnostics", put("phase", "best"), "$.phase: 'last' was expected"),
    "too few bins": ("diagnostics", put("heads.cls.reliability.tail.count", [1]), "reliability.tail.count: [1] is too"),
    "a share over 100": ("diagnostics", put("heads.avg.flows.author.tail.head", 101), "101"),
    "an unknown head": ("diagnostics", put("heads.mean", {}), "$.heads: Additional properties are not allowed ('mean'"),
    "no oracle": ("diagnostics", put("fusion.oracle_on_test", None), "fusion"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_file_is_refused_by_name(made, what):
    name, change, message = WRONG[what]
    found = copy.deepcopy(made[f"e/{name}"])
    change(found)
    assert message in (error(name, found) or "valid")


def test_a_cache_is_no_run():
    caches = [path for path in METRICS if path.parent.name == "caches"]
    found = json.loads(caches[0].read_text())
    lacking = error("metrics", found | {"seeds": {"0": {}}})
    assert lacking == "$.seeds['0']: 'teacher_top1_on_views' is a required property"
    assert error("metrics", found | {"kind": "experiment"}) is not None
