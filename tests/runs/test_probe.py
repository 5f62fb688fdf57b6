"""Two probes of a run, compared fact by fact."""

from __future__ import annotations

import pytest

from longtail.runs.probe import Probe, listed, tolerance


def probe(**changes) -> Probe:
    facts = {
        "exact": {
            "views of epoch 0": "a" * 64,
            "parameter head.bias": "[10], decay 0.0",
            "order of epoch 0": [3, 1],
        },
        "close": {"lr at epoch 1100": [2.5e-5]},
        "computed": {"loss 1 of epoch 0": [2.0, 0.0], "gradient 1 of epoch 0": [10.0]},
        "labels": {"teacher's labels of epoch 0": list(range(10)) * 100},
    }
    return Probe(**{kind: value | changes.get(kind, {}) for kind, value in facts.items()})


def test_a_probe_agrees_with_itself_through_a_file(tmp_path):
    probe().save(tmp_path / "probe.json")
    assert Probe.load(tmp_path / "probe.json") == probe()
    assert probe().differences(Probe.load(tmp_path / "probe.json")) == []


@pytest.mark.parametrize("text", ["", "[]", '{"exact": {}', '{"other": {}}'])
def test_a_file_that_is_none_is_no_probe(tmp_path, text):
    (tmp_path / "probe.json").write_text(text)
    assert Probe.load(tmp_path / "probe.json") is None
    assert Probe.load(tmp_path / "absent.json") is None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"exact": {"views of epoch 0": "b" * 64}}, "views of epoch 0 differ"),
        (
            {"exact": {"parameter head.bias": "[9], decay 0.0"}},
            "parameter head.bias: [9], decay 0.0, was [10], decay 0.0",
        ),
        ({"exact": {"order of epoch 0": [1, 3]}}, "order of epoch 0: [1, 3], was [3, 1]"),
        ({"close": {"lr at epoch 1100": [2.0e-5]}}, "lr at epoch 1100: 2e-05, was 2.5e-05"),
        ({"close": {"lr at epoch 1100": [2.5e-5 * (1 + 4e-9)]}}, "lr at epoch 1100: 2.50000001e-05, was 2.5e-05"),
        ({"computed": {"loss 1 of epoch 0": [2.1, 0.0]}}, "loss 1 of epoch 0: [2.1, 0], was [2, 0]"),
        ({"computed": {"loss 1 of epoch 0": [float("nan"), 0.0]}}, "loss 1 of epoch 0: [nan, 0], was [2, 0]"),
        ({"exact": {"views of epoch 7": "a" * 64}}, "views of epoch 7: new"),
        (
            {"labels": {"teacher's labels of epoch 0": [0, 0, *range(2, 10)] * 100}},
            "teacher's labels of epoch 0: 100 of 1000 are others",
        ),
    ],
    ids=str,
)
def test_what_differs_is_told(changes, told):
    assert probe().differences(probe(**changes)) == [told]


def test_a_fact_that_is_gone_is_told():
    now = probe()
    del now.exact["order of epoch 0"], now.computed["gradient 1 of epoch 0"]
    assert probe().differences(now) == ["order of epoch 0: gone", "gradient 1 of epoch 0: gone"]


def test_roundings_are_no_difference():
    turned = list(range(10)) * 100
    turned[17] = 0  # a near tie: one of a thousand
    now = probe(
        close={"lr at epoch 1100": [2.5e-5 * (1 + 5e-10)]},
        computed={"loss 1 of epoch 0": [2.0 * (1 + 0.9 * tolerance("loss 1 of epoch 0")), 0.0]},
        labels={"teacher's labels of epoch 0": turned},
    )
    assert probe().differences(now) == []


def test_a_long_list_of_differences_is_cut_in_its_line():
    assert listed(["a", "b"]) == "a; b"
    assert listed(list("abcdef")) == "a; b; c; d; and 2 more"
