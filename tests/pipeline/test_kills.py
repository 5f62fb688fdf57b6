"""benchmarks/kills.py in short: a made study is damaged twice and a start is killed; the engine mends it by itself."""

from __future__ import annotations

import importlib
import random
import shutil
import sys

import pytest

from tests.helpers.root import ROOT


@pytest.fixture(scope="module")
def kills():
    """The benchmark as a module."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        return importlib.import_module("kills")
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


@pytest.mark.parametrize(("engine", "seed"), [("dvc", 1)])
def test_a_campaign_in_short(kills, engine, seed, made_by_dvc, tmp_path, capsys):
    shutil.copytree(made_by_dvc, tmp_path / "source", symlinks=True)
    campaign = kills.Campaign(tmp_path, random.Random(seed), starts=2, seconds=10.0)
    campaign.reference = kills.made(made_by_dvc)
    campaign.run(engine, 0, ["byte flipped", "file cut short"])
    said = capsys.readouterr().out
    assert [(kill.kind, kill.identical, kill.lost) for kill in campaign.done] == [
        ("byte flipped", True, 0),
        ("file cut short", True, 0),
    ], said
    assert campaign.by_hand == [] and all(" at " in kill.what for kill in campaign.done), said


def test_a_damaged_file_that_nobody_mends_is_seen(kills, made_by_dvc, tmp_path):
    """Else a campaign could not fail."""
    folder = shutil.copytree(made_by_dvc, tmp_path / "repo", symlinks=True)
    wanted, finished = kills.made(folder), kills.results(folder)
    campaign = kills.Campaign(tmp_path, random.Random(3), starts=1)
    told = campaign.damage(folder, "byte flipped", dict(finished))
    assert (kills.made(folder) != wanted) == (not told.startswith(("scratch", "dvc.lock", ".snakemake")))
    name = next(iter(finished))
    (folder / name / "identity.json").touch()
    assert campaign.lost(folder, finished) == 1


def test_kinds_come_as_often_as_they_should(kills):
    runs = list(kills.drawn(100, random.Random(0), 6))
    drawn = [kind for run in runs for kind in run]
    assert len(drawn) == 100 and max(map(len, runs)) == 6
    assert {kind: drawn.count(kind) for kind in kills.KINDS} == {kind: 10 * n for kind, n in kills.KINDS.items()}
