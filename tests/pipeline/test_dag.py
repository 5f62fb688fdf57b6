"""dvc.yaml and params.yaml as they are: declared inputs are those that are read, and every entry can be built."""

from __future__ import annotations

import ast
import dataclasses
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import networkx
import pytest

from longtail.base import source, yaml_file
from longtail.base.params import files as params_files
from longtail.cost.upstream import filled
from tests.helpers.projects import CODE
from tests.helpers.root import ROOT, params_table
from tests.helpers.stage_processes import TINY, command, finish, start, tiny_params
from workflow.address import needed, pipelines

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # of DVC

DAG = yaml_file.read(ROOT / "dvc.yaml")["stages"]
PARAMS = params_table()
SECTION = {stage: block["foreach"][2:-1] for stage, block in DAG.items()}


# --- modules


def imports(path: str) -> frozenset[str]:
    return source.read((ROOT / path).read_bytes()).imports


def script(stage: str) -> str:
    return DAG[stage]["do"]["cmd"].split()[1]


@pytest.mark.parametrize("stage", DAG)
def test_a_stage_depends_on_the_code_that_runs(stage):
    """On what its script is made of (tests/base/test_source.py), and a student on its method, found by its name."""
    name = Path(script(stage)).stem
    by_name = ["methods/${item.method}"] if stage == "train_student" else []
    listed = [dep.removeprefix("data/code/") for dep in DAG[stage]["do"]["deps"] if dep.startswith("data/code/")]
    assert listed == [name, *by_name] and name in source.scripts(ROOT)
    assert not any(dep.startswith(("longtail", "stages")) for dep in DAG[stage]["do"]["deps"])


def test_no_module_is_listed():
    text = (ROOT / "dvc.yaml").read_text()
    assert not re.findall(r"longtail/\w+/[\w${}.]+\.py", text)
    assert len(text.splitlines()) <= 350
    (code,) = yaml_file.read(ROOT / "workflow/dvc.yaml")["stages"].values()
    assert code["deps"] == ["longtail", "stages"] and code["outs"] == [str(source.MADE)]


def test_the_init_of_a_folder_is_a_sentence():
    for path in (ROOT / "longtail").rglob("*/__init__.py"):
        body = ast.parse(path.read_text()).body
        assert len(body) == 1 and isinstance(body[0], ast.Expr), path


BY_HAND = {  # no entry runs them, and they decide no result
    "stages/archive.py",
    "stages/readme.py",
    "stages/browse.py",
    "stages/cards.py",
    "stages/crate.py",
    "stages/results.py",
    "stages/verified.py",
    "stages/weights.py",
    "stages/compare.py",
    "stages/compare_page.py",
    "stages/coverage.py",
    "stages/questions.py",
    "stages/claims.py",
    "stages/index.py",
    "stages/run_pages.py",
    "stages/review.py",
    "stages/machines.py",
    "stages/doctor.py",
    "stages/pack.py",
    "stages/paper.py",
    "stages/probe.py",
    "stages/schema.py",
    "stages/import_checkpoint.py",
    "stages/export_checkpoint.py",
}


def test_every_script_is_a_stage_or_run_by_hand():
    scripts = {f"stages/{p.name}" for p in (ROOT / "stages").glob("*.py")}
    assert scripts == {script(stage) for stage in DAG} | {"stages/code_digests.py"} | BY_HAND


def test_stages_stand_alone():
    """They need no engine and not one another; the library reads no command line, `python -m longtail.cost` apart."""
    stages = {p.stem for p in (ROOT / "stages").glob("*.py")}
    for path in [*(ROOT / "stages").glob("*.py"), *(ROOT / "longtail").rglob("*.py")]:
        name = str(path.relative_to(ROOT))
        tops = {module.partition(".")[0] for module in imports(name)}
        assert not tops & ({"dvc", "snakemake", "stages"} | stages - {"tables", "figures", "report"}), name
        if name.startswith("longtail") and not name.startswith("longtail/cost/"):
            assert "argparse" not in tops, name
            assert not re.search(r"\bsys\.argv\b", path.read_text()), name
            assert "__main__" not in path.read_text().replace('("longtail", "__main__")', ""), name


def test_stages_need_only_the_numeric_stack():
    """Python, and what a bare GPU node has."""
    allowed = {"torch", "torchvision", "timm", "numpy", "pandas", "sklearn", "scipy", "matplotlib", "yaml", "PIL"}
    allowed |= {"jinja2", "markupsafe", "pydantic", "typing_extensions", "safetensors", "psutil", "longtail"}
    allowed |= {"filelock", "__future__"} | set(sys.stdlib_module_names)  # torch brings filelock
    for path in [*(ROOT / "stages").glob("*.py"), *(ROOT / "longtail").rglob("*.py")]:
        tops = {module.partition(".")[0] for module in imports(str(path.relative_to(ROOT)))}
        extra = {"rocrate"} if path.name == "run_crate.py" else set()  # of the extra `crate`, told where it is missing
        assert tops <= allowed | extra, (path.name, tops - allowed)


# --- command lines


@pytest.mark.parametrize("name", sorted(p.stem for p in (ROOT / "stages").glob("*.py")))
def test_help_teaches(name, tmp_path):
    said = finish(tmp_path, name, "--help").out
    text = (ROOT / f"stages/{name}.py").read_text()
    for line in ast.get_docstring(ast.parse(text)).splitlines():
        assert line.strip() in said
    assert f"python stages/{name}.py " in said
    for argument in re.findall(r"add_argument\(\s*\"(--[\w-]+)\"", text):
        assert argument in said
    for option in ("params", "device"):  # longtail/base/options.py
        assert f"add_{option}(" not in text or f"--{option} " in said
    assert text.count("add_argument(") == text.count("help="), "every argument says what it is"
    assert len(text.splitlines()) <= 150


def test_command_lines_hold_no_number():
    for stage, block in DAG.items():
        names = set(re.findall(r"--([\w-]+)", block["do"]["cmd"]))
        paths = {
            "out",
            "dataset",
            "teacher",
            "details",
            "cache",
            "start-from",
            "run",
            "others",
            "runs",
            "metrics",
            "published",
            "tables",
            "figures",
            "analysis",
            "print",
            "words",
        }
        assert names <= paths | {"kind", "params", "folder"}, stage


# --- params


ENTRIES = {  # an entry of tiny.yaml for every family of stages
    "subsample": "tiny",
    "train_teacher": "ldam_drw_sam-tiny",
    "cache_logits": "ldam_drw_sam-tiny",
    "pretrain": "tiny-mgp",
    "train_student": "tiny-deit_lt",
    "evaluate_teacher": "ldam_drw_sam-tiny",
    "evaluate": "tiny-deit_lt",
    "evaluate_labels": "ldam_drw_sam-tiny",
    "teacher_entropy": "ldam_drw_sam-tiny",
    "reconstruct": "tiny-mgp",
    "virtual_examples": "ldam_drw_sam-tiny",
    "compare_features": "cbd-tiny",
    "compare_predictions": "cbd-tiny",
    "analyse": "tiny-deit_lt",
    "experts": "tiny-deit_lt",
    "scores": "tiny",
    "tables": "tiny",
    "figures": "tiny",
    "report": "tiny",
    "overview": "tiny",
}


def outputs(path: Path) -> dict[str, bytes]:
    """{file: content}."""
    names = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return {n.name: n.read_bytes() for n in names}


@pytest.fixture(scope="module")
def made(made_by_dvc, tmp_path_factory) -> Path:
    """The whole tiny study, evaluated and reported."""
    folder = tmp_path_factory.mktemp("made")
    for part in ("data", "reports"):
        shutil.copytree(made_by_dvc / part, folder / part, symlinks=True)
    tiny_params(folder)
    for stage in ("scores", "overview"):
        finish(folder, *command(stage, ENTRIES[stage]))
    return folder


@pytest.mark.parametrize("stage", DAG)
def test_declared_params_are_those_that_are_read(stage, made, tmp_path):
    """Without any other entry the stage does the same; without one of the declared it cannot."""
    if stage not in ENTRIES:  # `raw`: it reads no entry of its own
        assert "params" not in DAG[stage]["do"]
        return
    shutil.copytree(made, tmp_path, True, shutil.ignore_patterns("logs"), dirs_exist_ok=True)
    tiny = yaml_file.read(TINY)
    line, key = command(stage, ENTRIES[stage]), ENTRIES[stage]
    named = [name for block in DAG[stage]["do"]["params"] for names in block.values() for name in names]
    declared = {filled(name, key, tiny[SECTION[stage]][key]) for name in named}

    def keep(only: set[str]) -> None:
        """Names stay, as references are checked; what is not kept has no content. section.name, or section.name.key."""

        def empty(params: dict) -> None:
            for section, entries in params.items():
                for name in entries if section != "place" else ():
                    if f"{section}.{name}" not in only:
                        kept = {k: v for k, v in (entries[name] or {}).items() if f"{section}.{name}.{k}" in only}
                        entries[name] = kept or None

        tiny_params(tmp_path, empty)

    keep(declared)
    run = finish(tmp_path, *line)
    if stage in ("train_teacher", "cache_logits", "pretrain", "train_student"):
        assert "seed 0: already there" in run.out  # by its identity
    for _, written in filter(lambda pair: pair[0] in ("--out", "--details"), pairwise(line)):
        assert outputs(tmp_path / written) == outputs(made / written)
    for name in declared:
        keep(declared - {name})
        run = start(tmp_path, *line)
        assert run.wait() == 2, f"{name} is declared and not read"
        assert name.partition(".")[2] in run.err


# --- the real params.yaml


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """DVC's graph of its stages (networkx.DiGraph, edges lead upstream) as it resolves the pipeline in every folder, in
    a copy that holds nothing else. DVC refuses where two stages make the same file."""
    from dvc.repo import Repo

    folder = tmp_path_factory.mktemp("dag")
    for name in (
        ".dvcignore",
        CODE,
        *(f for file in params_files(ROOT) for f in (file, file.replace("params", "dvc"))),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    shutil.copytree(ROOT / ".dvc", folder / ".dvc", ignore=shutil.ignore_patterns("tmp", "cache", "config.local"))
    with Repo(str(folder)) as repo:
        return repo.index.graph


@pytest.fixture(scope="module")
def stages(graph) -> dict:
    """{name: stage}."""
    return {stage.name: stage for stage in graph}


def test_a_study_is_brought_up_to_date_by_all_folders_that_it_needs(graph, stages):
    """`make repro` shows DVC those alone."""
    root, of = Path(stages["code"].wdir), pipelines(ROOT)
    assert len(PARAMS["studies"]) > 20
    for study in PARAMS["studies"]:
        ends = [f"report@{study}", f"scores@{study}"]
        addresses, files = needed(ends, of)
        known = {stage for end in ends for stage in (stages[end], *networkx.descendants(graph, stages[end]))}
        assert {Path(stage.path).relative_to(root).as_posix() for stage in known} == set(files), study
        folder = Path(stages[ends[0]].path).relative_to(root)
        assert addresses == [f"{folder}:{end}" if len(folder.parts) > 1 else end for end in ends]


def test_dvc_knows_every_entry(stages):
    assert set(stages) == {"code"} | {f"{stage}@{name}" for stage in DAG for name in PARAMS[SECTION[stage]]}


def test_every_input_is_made_or_there(stages):
    outs = {out.def_path for stage in stages.values() for out in stage.outs}
    raw = {block["raw"] for block in PARAMS["datasets"].values()}
    folders = {str(Path(out).parent) for out in outs}
    folders |= {str(Path(folder).parent) for folder in folders}
    for name, stage in stages.items():
        for dep in stage.deps:
            if type(dep).__name__ != "ParamsDependency":
                code = Path(dep.def_path).is_relative_to(source.MADE) and source.lists([dep.def_path])[0]
                known = code in source.scripts(ROOT) if code else dep.def_path in outs | raw | folders
                found = known or (ROOT / dep.def_path).exists()
                assert found, f"{name} depends on {dep.def_path}"


def test_a_run_depends_on_the_run_it_starts_from_and_a_cache_on_the_run_that_labels_it(stages):
    def runs(name: str) -> set[str]:
        paths = {dep.def_path for dep in stages[name].deps}
        return {path for path in paths if path.startswith(("data/students/", "data/teachers/"))}

    for name, block in PARAMS["experiments"].items():
        wanted = {f"data/students/{block['start']}", f"data/teachers/{block['teacher']}"}
        assert runs(f"train_student@{name}") == wanted
    for name, block in PARAMS["teachers"].items():
        assert runs(f"train_teacher@{name}") == {f"data/teachers/{source}" for source in block["sources"]}
    for name, block in PARAMS["caches"].items():
        for stage in ("cache_logits", "teacher_entropy"):
            assert runs(f"{stage}@{name}") == {f"data/{block['teacher_kind']}/{block['teacher']}"}
    assert "data/students/cifar10_if100-vit-b" in runs("train_student@cifar10_if100-vit_crt-b")
    assert runs("cache_logits@regnety-cifar10_if50") == {"data/students/cifar10_if50-regnety"}


def test_a_study_is_made_of_its_own_entries(stages):
    """The folders that its tables and figures read are filled by all that it lists, and by no other study's entries."""
    for study, block in PARAMS["studies"].items():
        listed = {f"reports/metrics/{study}/{i['name']}.json" for i in block["experiments"]}
        listed |= {f"reports/metrics/{study}/teachers/{i['name']}.json" for i in block["teachers"]}
        listed |= {f"reports/metrics/{study}/caches/{i['name']}.json" for i in block["caches"]}
        listed |= {f"reports/runs/{study}/{i['name']}" for i in block["experiments"]}
        listed |= {f"reports/runs/{study}/teachers/{i['name']}" for i in block["teachers"]}
        listed |= {f"reports/analysis/{study}/{i['name']}" for i in block["experiments"]}
        listed |= {f"reports/experts/{study}/{i['name']}.json" for i in block["experiments"]}
        listed |= {f"reports/analysis/{study}/teachers/{i['name']}" for i in block["caches"]}
        listed |= {f"reports/analysis/{study}/pretrainings/{i['name']}" for i in block.get("pretrainings", ())}
        under = tuple(f"reports/{part}/{study}/" for part in ("metrics", "runs", "analysis", "experts"))
        makers = {o.def_path: name for name, s in stages.items() for o in s.outs if o.def_path.startswith(under)}
        assert listed <= set(makers)
        for name in makers.values():
            stage, _, entry = name.partition("@")
            assert PARAMS[SECTION[stage]][entry]["study"] == study


def test_every_entry_builds():
    from longtail.base import params
    from longtail.data.config import DatasetConfig
    from longtail.report.study import OF_STUDENTS, StudyConfig
    from longtail.report.tables.overview import OverviewConfig
    from longtail.training.cache import CacheConfig
    from longtail.training.entry_probe import check_sources
    from longtail.training.experiment import Pretrained, resolve
    from longtail.training.pretraining_config import PretrainingConfig, resolve_pretraining
    from longtail.training.teacher_config import TeacherConfig
    from longtail.views.recipe import ViewRecipe

    def shape_of(begun: PretrainingConfig) -> Pretrained:
        model = begun.model
        size = model.image_size, model.patch_size, model.dim, model.depth, model.heads, model.mlp_ratio
        return Pretrained(begun.dataset, *size)

    assert list(PARAMS) == list(params.SECTIONS + params.FOR_DVC)
    kinds = {"datasets": DatasetConfig, "views": ViewRecipe, "teachers": TeacherConfig, "caches": CacheConfig}
    built = {
        section: {name: params.build(kind, values, f"{section}.{name}") for name, values in PARAMS[section].items()}
        for section, kind in (kinds | {"studies": StudyConfig, "overviews": OverviewConfig}).items()
    }
    for name, teacher in built["teachers"].items():
        assert name.endswith(f"-{teacher.dataset}") and teacher.dataset in built["datasets"]
        trained = teacher.epochs or (teacher.start and teacher.start.train == "nothing")
        assert trained and max((teacher.drw_epoch or 0, *teacher.milestones)) < max(1, teacher.epochs)
        assert name in {i.name for i in built["studies"][teacher.study].teachers}
        check_sources(PARAMS, name, teacher)
    for name, shown in PARAMS["virtual_examples"].items():
        assert set(shown) == {"study", "dataset"} and shown["dataset"] in built["datasets"]
        assert name in {i.name for i in built["studies"][shown["study"]].teachers}
    for name, shown in PARAMS["compare_features"].items():
        student = PARAMS["teachers"][name]
        assert (
            all(shown[key] == student[key] for key in ("study", "dataset", "sources")) and shown["sources"][0] != "none"
        )
    for name, shown in PARAMS["compare_predictions"].items():
        student, others = PARAMS["teachers"][name], [PARAMS["teachers"][o] for o in shown["others"] if o != "none"]
        assert all(shown[key] == of[key] for key in ("study", "dataset") for of in (student, *others)) and others
        assert all(set(student["seeds"]) <= set(of["seeds"]) for of in others), name
    drawn = {section: set() for section in OF_STUDENTS.values()}
    for study in built["studies"].values():
        for figure, names in study.figures.items():
            drawn.get(OF_STUDENTS.get(figure), set()).update(names)
    assert drawn == {section: set(PARAMS[section]) for section in drawn}
    for name, labels in built["caches"].items():
        if labels.teacher_kind == "teachers":
            teacher = built["teachers"][labels.teacher]
            seen, seeds = teacher.dataset, teacher.seeds
        else:
            student, seeds = resolve(PARAMS, labels.teacher)
            seen = student.dataset
            assert student.model.image_size == built["views"][labels.views].teacher_size, name
        assert labels.views in built["views"] and labels.dataset == seen
        assert set(labels.seeds) <= set(seeds) or len(seeds) == 1, name
    for name, block in PARAMS["experiments"].items():
        config, seeds = resolve(PARAMS, name)
        study = built["studies"][config.study]
        assert name in {i.name for i in study.experiments}
        assert seeds and len(set(seeds)) == len(seeds)
        if block["cache"] != "none":
            labels = built["caches"][block["cache"]]
            assert (labels.views, labels.dataset) == (block["views"], block["dataset"]), name
            assert labels.epochs >= config.train.epochs and set(seeds) <= set(labels.seeds), name
        if config.pretrained is not None:
            begun, starts = resolve_pretraining(PARAMS, config.start)
            assert config.pretrained == shape_of(begun) and set(seeds) <= set(starts), name
        elif config.start != "none":
            start, starts = resolve(PARAMS, config.start)
            assert (start.dataset, start.model) == (config.dataset, config.model) and set(seeds) <= set(starts), name
    for name in PARAMS["pretrainings"]:
        config, seeds = resolve_pretraining(PARAMS, name)
        assert name not in PARAMS["experiments"] and len(set(seeds)) == len(seeds)
        assert name in {i.name for i in built["studies"][config.study].pretrainings}
    for overview in built["overviews"].values():
        assert set(overview.studies) <= set(built["studies"])
        for series in overview.series:
            for study, entry in zip(overview.studies, series.entries, strict=True):
                assert entry is None or PARAMS["experiments"][entry]["study"] == study
    for study in built["studies"].values():
        for panel in study.smoothing:  # what a figure calls epsilon is what its entries were trained with
            entries = {epsilon: built["teachers"][entry] for epsilon, entry in panel.teachers}
            assert all(epsilon == entry.head_smoothing for epsilon, entry in entries.items())
            assert len({dataclasses.replace(e, head_smoothing=0.0) for e in entries.values()}) == 1
        for section in ("experiments", "teachers", "pretrainings"):
            items = getattr(study, section)
            assert {i.name for i in items} <= set(PARAMS[section])


def test_every_printed_cell_is_in_the_published_tables():
    from longtail.base import params
    from longtail.report.published import CURVES, printed_curve
    from longtail.report.results import load
    from longtail.report.study import StudyConfig
    from longtail.report.tables.grid import records
    from longtail.report.tables.overview import OverviewConfig, printed

    for name, values in PARAMS["studies"].items():
        study = params.build(StudyConfig, values, f"studies.{name}")
        nothing = load(ROOT / "no such folder", name, study)
        for table in study.tables:
            cells = records(table, nothing, ROOT / "data/published")
            assert len(cells) == len(table.all_rows) * len(table.columns)
        for curve in study.curves:
            assert curve.figure in CURVES
            printed_curve(ROOT / "data/published", curve)
    for name, values in PARAMS["overviews"].items():
        overview = params.build(OverviewConfig, values, f"overviews.{name}")
        assert set(printed(overview, ROOT / "data/published")) == {series.label for series in overview.series}


def test_mixing_and_smoothing_stop_where_reweighting_starts():
    """METHODS 3.4 and trap 19: at the DRW epoch; without DRW, and on the large sets, they stay to the end, but in the
    controls of re-weighting alone, which are called as what they are held against."""
    from longtail.training.experiment import resolve

    for name in PARAMS["experiments"]:
        config, _ = resolve(PARAMS, name)
        weighted, _ = resolve(PARAMS, name.removesuffix("-unweighted"))
        assert name == weighted.experiment or config.loss.drw_epoch is None
        until = getattr(weighted.loss, "drw_epoch", config.views.mix_until)
        until = config.train.epochs if until is None or config.dataset in ("imagenet_lt", "inat18") else until
        if config.views.mix_prob:
            assert config.views.mix_until == getattr(config.loss, "smoothing_until", until) == until, name
