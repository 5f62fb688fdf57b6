"""Every command that README.md and the papers' pages tell: those of seconds as they stand, the others dry, so that a
target, an option or a script that is no longer there is found."""

from __future__ import annotations

import re
import shlex
import subprocess

import pytest

from longtail.base import params
from longtail.cost.upstream import needed_by, stages
from tests.helpers.reporting import run_stage
from tests.helpers.root import ROOT
from workflow.address import addresses

PAGES = [ROOT / "README.md", *sorted(ROOT.glob("papers/*/README.md"))]
TOOLS = ("make", "python", "dvc", "snakemake", "pip")
COMMAND = re.compile(rf"(?:[A-Z_]+=\S+ )*(?:{'|'.join(TOOLS)}) [^`]+")
NAMED = {
    "report@STUDY": "report@digits",
    "STUDY=…": "STUDY=digits",
    "A": "reports",
    "B": "reports",
}  # what stands for a reader's own

TO_BE_WRITTEN = {"evaluate@digits-deit_lt-alpha_25"}  # README: how to add an entry


def commands() -> list[list[str]]:
    """Words of each command, once: lines of code blocks without their comments, and what stands in code type."""
    found = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
        lines = [line.partition(" #")[0].strip() for block in blocks for line in block.splitlines()]
        bare = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        found |= {line for line in (*lines, *re.findall(r"`([^`\n]+)`", bare)) if COMMAND.fullmatch(line)}
    words = [[NAMED.get(word, word) for word in shlex.split(line) if word != "…"] for line in sorted(found)]
    return [line[next(i for i, word in enumerate(line) if word in TOOLS) :] for line in words]


@pytest.fixture(scope="module")
def known() -> dict[str, str]:
    """{stage: its address}."""
    return addresses(ROOT)


def of(tool: str) -> list[list[str]]:
    return [line[1:] for line in commands() if line[0] == tool and line[1:] != ["..."]]


def test_there_are_commands_of_every_tool():
    assert {line[0] for line in commands()} == set(TOOLS)


def test_the_entries_of_the_tables_are_there(known):
    told = {each for page in PAGES for each in re.findall(r"`(papers/\S+dvc\.yaml:\S+)`", page.read_text("utf-8"))}
    assert len(told) > 300 and told <= {*known.values()}


def test_what_dvc_is_asked_for_is_there(known):
    """By DVC's own parser of its command line; targets by their addresses."""
    from dvc.cli.parser import get_main_parser

    parser, places = get_main_parser(), {*known.values()}
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "dvc.yaml", *ROOT.glob("papers/*/dvc.yaml"))}
    asked = of("dvc")
    assert ["repro"] in asked and ["repro", "-P"] in asked
    for line in asked:
        if line == ["metrics"]:
            line = ["metrics", "show"]
        told = parser.parse_args([word for word in line if word != "..."])
        for target in getattr(told, "targets", None) or ():
            assert target in places | files | TO_BE_WRITTEN, line


def test_what_make_is_asked_for_is_there():
    asked = {tuple(word.partition("=")[0] for word in line): line for line in of("make")}  # make knows no study's name
    for line in asked.values():
        done = subprocess.run(["make", "--dry-run", *line], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, (line, done.stderr)


def test_profiles_and_targets_of_snakemake_are_there():
    studies = params.load_all(ROOT)["studies"]
    for line in of("snakemake"):
        if line:
            assert line[0] == "--profile" and (ROOT / "workflow/profiles" / line[1]).is_dir() and line[2] in studies, (
                line
            )


def test_scripts_are_there_and_the_doctor_answers(known, monkeypatch, capsys):
    """The doctor as it stands: of data that are not here it says what is missing. What a study costs, dry."""
    monkeypatch.chdir(ROOT)
    everything = params.load(None)
    pipeline = stages(ROOT / "dvc.yaml", everything)
    asked = of("python")
    assert any("longtail.cost" in line for line in asked)
    for script, *rest in asked:
        if script == "-m":
            assert rest[0] == "longtail.cost" and needed_by(rest[1], pipeline), rest
            continue
        assert (ROOT / script).is_file(), script
        if script == "stages/doctor.py":
            there = (ROOT / everything["datasets"][rest[0]]["raw"]).is_dir()
            assert run_stage("doctor", *rest) in ((0, 1) if there else (2,))
            assert there or "data/raw/" in capsys.readouterr().err


def test_the_package_can_be_installed_as_told():
    assert of("pip") == [["install", "-e", "."]] and (ROOT / "pyproject.toml").is_file()
