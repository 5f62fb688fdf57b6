"""docs/scaling.md: its tables are the counts of params.yaml put into the formulas that it shows."""

from __future__ import annotations

import fnmatch
import re

import pytest

from longtail.base import environment, yaml_file
from longtail.cost.workload import Load, Workload
from longtail.runs import execution
from tests.helpers.root import ROOT, params_table
from workflow import resources

PARAMS = params_table()
FULL = Workload(PARAMS)
PAGE = ROOT / "docs/scaling.md"
STUDENTS = ("cifar10_if100-deit_lt-b", "imagenet_lt-deit_lt-b", "inat18-deit_lt-b")
TEACHERS = ("ldam_drw_sam-imagenet_lt", "ldam_drw_sam-inat18", "paco_sam-imagenet_lt")
PEAK, VIT, CNN = 790e12, 0.45, 0.10  # FLOP/s, utilisation of ViT-B and of ResNet-50
INSIDE, BETWEEN = 200e9, 50e9  # bytes a second of a GPU in a sum over GPUs: in a node, between nodes
DECODED = 200  # images a second and core


def trained(name: str) -> Load:
    return next(load for load in FULL.of("train_student", name).loads if load.part == "train")


def layout(name: str):
    entry = PARAMS["experiments"][name]
    return FULL.layout(entry["views"], entry["dataset"])


def compute(name: str) -> str:
    work, of = FULL.of("train_student", name), layout(name)
    groups = len(of.groups_of_step(0))
    hours = work.flop / (PEAK * VIT) / 3600
    times = " | ".join(f"{hours / min(gpus, groups):.1f}" for gpus in (1, 8, 64))
    epochs = FULL.student_blocks(name)[2]["epochs"]
    counts = f"{trained(name).count / 1e6:.1f} | {epochs * of.steps:,} | {groups} | {work.flop / 1e18:.2f}"
    return f"| `{name}` | {counts} | {times} |"


def traffic(name: str) -> str:
    shape, groups = trained(name).shape, len(layout(name).groups_of_step(0))
    views = layout(name).group * groups
    cells = []
    for gpus, rate in ((8, INSIDE), (groups, BETWEEN)):
        step = 2 * views / gpus * shape.train_macs / (PEAK * VIT)
        bytes_ = 2 * (gpus - 1) / gpus * 4 * shape.params
        cells += [f"{1e3 * step:.0f}", f"{1e3 * bytes_ / rate:.0f}"]
    return f"| `{name}` | {4 * shape.params / 1e6:.0f} | {cells[0]} | {cells[1]} | {groups}: {cells[2]} | {cells[3]} |"


def decoding(name: str) -> str:
    rate = PEAK * VIT / (2 * trained(name).shape.train_macs)
    groups = len(layout(name).groups_of_step(0))
    cells = " | ".join(f"{min(gpus, groups) * rate / DECODED:,.0f}" for gpus in (1, 8, 64))
    return f"| `{name}` | {rate:,.0f} | {cells} | {trained(name).count / DECODED / 3600:,.0f} |"


def storage(name: str) -> str:
    entry = PARAMS["experiments"][name]
    work, shape, labels = (
        FULL.of("train_student", name),
        trained(name).shape,
        FULL.of("cache_logits", entry["cache"]).disk,
    )
    sizes = (labels / 1e6, 4 * shape.params / 1e6, 12 * shape.params / 1e6, (work.disk - 4 * shape.params) / 1e6)
    return f"| `{name}` | " + " | ".join(f"{size:,.0f}" for size in sizes) + " |"


def memory(name: str) -> str:
    shape = trained(name).shape
    cells = " | ".join(f"{(16 * shape.params + 4 * views * shape.activations) / 1e9:.0f}" for views in (128, 256, 512))
    return f"| `{name}` | {4 * shape.activations / 1e6:.0f} | {cells} |"


def passes(name: str) -> str:
    """Whole mix groups of a forward pass in bf16, with a fifth of the memory left free."""
    shape, of = trained(name).shape, layout(name)
    free = [0.8e9 * memory - 16 * shape.params for memory in (24, 40, 80, 141)]
    cells = " | ".join(f"{int(bytes_ // (2 * shape.activations * of.group)) * of.group:,}" for bytes_ in free)
    return f"| `{name}` | {of.group * len(of.groups_of_step(0)):,} | {cells} |"


def teacher(name: str) -> str:
    work = FULL.of("train_teacher", name)
    images = next(load for load in work.loads if load.part == "batch").count
    return (
        f"| `{name}` | {images / 1e6:.1f} | {work.flop / 1e18:.2f} | {work.flop / (PEAK * CNN) / 3600:.1f} "
        f"| {images / DECODED / 3600:.0f} |"
    )


MAKERS = (compute, traffic, decoding, storage, memory, passes)
ROWS = [make(name) for make in MAKERS for name in STUDENTS[make is decoding :]]
ROWS += [teacher(name) for name in TEACHERS]


@pytest.mark.parametrize("row", ROWS)
def test_every_row_is_what_is_counted(row):
    assert row in PAGE.read_text().splitlines()


def test_the_page_has_no_other_rows():
    shown = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert sorted(shown) == sorted(ROWS)


SETTINGS = PAGE.read_text().partition("## Settings")[2]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", SETTINGS, re.DOTALL)


def test_the_lines_for_resources_are_taken(tmp_path):
    """By the reader of workflow/resources.yaml, behind the lines that are there; and the hours are enough."""
    (lines,) = blocks("yaml")
    path = tmp_path / "resources.yaml"
    path.write_text(resources.FILE.read_text() + lines)
    stages = {
        f"{stage}@{name}"
        for stage, section in (("train_student", "experiments"), ("cache_logits", "caches"))
        for name in PARAMS[section]
    }
    for pattern in yaml_file.parse(lines, "text"):
        assert fnmatch.filter(stages, pattern), pattern
    for name in STUDENTS[1:]:
        asked = resources.of(f"train_student@{name}", path)
        hours = FULL.of("train_student", name).flop / (PEAK * VIT) / asked.gpus / 3600
        assert asked.gpus == 8 and hours < asked.runtime / 60 < 3 * hours
        labels = resources.of(f"cache_logits@{PARAMS['experiments'][name]['cache']}", path)
        assert trained(name).count / DECODED / 60 / labels.cpus < labels.runtime


def test_the_stages_have_the_options_of_the_commands():
    for line in filter(None, "".join(blocks("bash")).splitlines()):
        stage, options = re.search(r"stages/(\w+\.py)([^#]*)", line).groups()
        source = (ROOT / "stages" / stage).read_text()
        known = re.findall(r'add_argument\(\s*"(--[\w-]+)"', source)
        assert set(re.findall(r"--[\w-]+", options)) <= set(known), line
        for micro_batch in re.findall(r"--micro-batch (\d+)", options):
            assert all(f" {int(micro_batch):,} |" in passes(name) for name in STUDENTS)


def test_the_variables_and_profiles_are_known():
    sources = "".join(path.read_text() for folder in ("longtail", "workflow") for path in (ROOT / folder).rglob("*.py"))
    for variable in set(re.findall(r"LONGTAIL_\w+", SETTINGS)):
        assert variable in sources
    for variable, value in re.findall(r"LONGTAIL_(PRECISION|ENGINE)=(\w+)", SETTINGS):
        assert value in {"PRECISION": execution.DTYPES, "ENGINE": environment.ENGINES}[variable]
    for profile in re.findall(r"--profile (\w+)", SETTINGS):
        assert (ROOT / "workflow/profiles" / profile).is_dir()
