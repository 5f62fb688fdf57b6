"""docs/scaling.md: its tables are the counts of params.yaml put into the formulas that it shows."""

from __future__ import annotations

import pytest
import yaml
from reporting import ROOT

from longtail.workload import Load, Workload

PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
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


def teacher(name: str) -> str:
    work = FULL.of("train_teacher", name)
    images = next(load for load in work.loads if load.part == "batch").count
    return (
        f"| `{name}` | {images / 1e6:.1f} | {work.flop / 1e18:.2f} | {work.flop / (PEAK * CNN) / 3600:.1f} "
        f"| {images / DECODED / 3600:.0f} |"
    )


ROWS = [make(name) for make in (compute, traffic, decoding, storage, memory) for name in STUDENTS[make is decoding :]]
ROWS += [teacher(name) for name in TEACHERS]


@pytest.mark.parametrize("row", ROWS)
def test_every_row_is_what_is_counted(row):
    assert row in PAGE.read_text().splitlines()


def test_the_page_has_no_other_rows():
    shown = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert sorted(shown) == sorted(ROWS)
