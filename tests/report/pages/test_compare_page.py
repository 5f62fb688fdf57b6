"""reports/compare.html: what the page knows of each run, before its script shows two of them (the browser's tests)."""

from __future__ import annotations

import json
import re

from longtail.base import params
from longtail.report.pages.compare_page import POINTS, curve, flat, page
from longtail.report.pages.entries import Size, size
from tests.helpers import run_files


def test_settings_by_their_path():
    config = {"train": {"lr": 0.1, "betas": [0.9, 0.99]}, "method": "vit", "loss": {}, "start": None}
    expected = {"train.lr": "0.1", "train.betas": "[0.9, 0.99]", "method": "vit", "start": "null"}
    assert dict(flat(config)) == expected


def test_curves_are_means_over_the_seeds_that_have_a_value():
    seeds = {"0": [1.0, None, 3.0], "1": [2.0, None, None]}
    record = {"seeds": {s: {"curves": {"epoch": [0, 1, 2], "loss": of}} for s, of in seeds.items()}}
    assert curve(record, ("absent", "loss")) == [[1, 1.5], [3, 3.0]]
    assert curve(record, ("absent",)) == []
    long = {"seeds": {"0": {"curves": {"epoch": list(range(1000)), "loss": [0.5] * 1000}}}}
    found = curve(long, ("loss",))
    assert len(found) <= POINTS + 1 and found[0][0] == 1 and found[-1][0] == 1000


def test_the_page_holds_every_run_and_nothing_that_ends_its_json(tmp_path):
    reports = run_files.write(tmp_path, label="</script><b>")
    text = page(params.load(tmp_path / "params.yaml"), reports)
    held = json.loads(re.search(r'id="runs">(.*?)</script>', text, re.DOTALL)[1])
    student, teacher = held["s"]["runs"]
    assert (student["label"], student["entry"], teacher["entry"]) == ("</script><b>", "e", "t")
    assert student["settings"]["loss.alpha"] == "0.5" and student["results"]["Trained on"] == "cpu x1"
    assert student["curves"]["Training loss"] == [[1, 3.0], [2, 2.0], [3, 1.5]]
    assert text.count("<script") == 2 and "https:" not in text


def test_parameters_and_resolution_of_a_run():
    """A ResNet-8 of 16, 32 and 64 channels on 8 px, without biases but the classifier's; a ViT with its distillation
    token has one token, one position and one classifier more than the one without, 64 + 64 + 64 * 10 + 10."""
    table, metrics = params.load(None), {"classes": 10, "class_counts": [5] * 10, "dataset": "digits_if20"}
    convolutions = 9 * (3 * 16 + 2 * 16 * 16 + 16 * 32 + 32 * 32 + 32 * 64 + 64 * 64)
    norms = 2 * (16 * 3 + 32 * 2 + 64 * 2)
    found = size(table, "teacher", "balanced_softmax-digits_if20", metrics)
    assert found == Size(convolutions + norms + 64 * 10 + 10, 8)
    with_dist, without = (size(table, "experiment", f"digits-{name}", metrics) for name in ("deit_lt", "vit"))
    assert with_dist.parameters - without.parameters == 64 + 64 + 64 * 10 + 10 and with_dist.pixels == 24
    assert size(table, "experiment", "no such", metrics) == Size()
