"""What DVC's files say: stages with inputs and outputs, what a target needs, sizes of artefacts.

How much disk the artefacts of a study take, as DVC recorded it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from longtail.base import yaml_file
from longtail.base.errors import UserError, nearest

REFERENCE = re.compile(r"\$\{(key|item(?:\.\w+(?:\[\d+\])?)?|place\.\w+)\}")


@dataclass(frozen=True)
class Stage:
    """One instance of a stage."""

    name: str  # e.g. train_student@digits-vit
    deps: tuple[str, ...]  # paths from the repository's root
    outs: tuple[str, ...]
    seeds: tuple[int, ...]  # of its entry; none where that has no seeds

    @property
    def kind(self) -> str:
        return self.name.partition("@")[0]

    @property
    def entry(self) -> str:
        return self.name.partition("@")[2]

    def finished(self, root: Path) -> bool:
        """Is every output there, and in a folder of runs every seed? Says nothing about whether it is up to date."""
        return all((root / out).exists() for out in self.outs) and all(
            (root / out / f"seed{seed}").is_dir() for out in self.outs if out.startswith("data/") for seed in self.seeds
        )


def stages(path: Path, params: dict) -> dict[str, Stage]:
    """Every instance of every stage, by name, in the file's order. params: of one folder, or of all together.

    Raises UserError where the file is no pipeline, and where a section that it goes over, or a key that it fills in, is
    not there: DVC would stop too, without the line to write.
    """
    pipeline = yaml_file.read(path)
    try:
        blocks = pipeline["stages"]
        found = {}
        for kind, block in blocks.items():
            section = block["foreach"][2:-1]
            if section not in params:
                where = f"{path.with_name('params.yaml')}: no section {section}"
                raise UserError(f"{where}, which {path.name} goes over; write {section}: {{}}")
            for key, item in (params[section] or {}).items():
                try:
                    deps, outs = (_paths(block["do"].get(what, []), key, item) for what in ("deps", "outs"))
                except KeyError as error:
                    raise UserError(_lacking(f"{section}.{key}", kind, str(error.args[0]))) from None
                found[f"{kind}@{key}"] = Stage(f"{kind}@{key}", deps, outs, _seeds(item))
        return found
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: no pipeline of `foreach` stages over params.yaml ({error})") from None


def _lacking(where: str, kind: str, reference: str) -> str:
    """What to say of an entry without a value that the stage `kind` of dvc.yaml fills in, such as item.sources[0]."""
    name = reference.removeprefix("item.").partition("[")[0]
    if name == "sources":
        five = "sources: [none, none, none, none, none], or an entry of teachers in the first place"
        return f"{where}.sources: missing or shorter than five; {kind} of dvc.yaml fills in each place; write {five}"
    return f"{where}.{name}: missing; {kind} of dvc.yaml fills it in"


def _seeds(item: dict | str) -> tuple[int, ...]:
    return tuple(item.get("seeds") or ()) if isinstance(item, dict) else ()


def filled(template: str, key: str, item: dict | str, place: dict | None = None) -> str:
    """A text of dvc.yaml for one entry of the section that its stage goes over. place: that of the params file.

    Raises KeyError for what they lack.
    """
    values = {"key": key} | {f"place.{name}": value for name, value in (place or {}).items()}
    values |= {f"item.{name}": value for name, value in item.items()} if isinstance(item, dict) else {"item": item}
    lists = {name: value for name, value in values.items() if isinstance(value, list)}
    values |= {f"{name}[{i}]": each for name, value in lists.items() for i, each in enumerate(value)}
    return REFERENCE.sub(lambda match: str(values[match[1]]), template)


def _paths(listed: list, key: str, item: dict | str) -> tuple[str, ...]:
    """Paths of `deps` or `outs`, each a path or {path: options}."""
    return tuple(filled(next(iter(each)) if isinstance(each, dict) else each, key, item) for each in listed)


def needed_by(target: str, known: dict[str, Stage]) -> list[Stage]:
    """The stages a target needs, itself last, each after its own inputs. target: a stage, or the study of a report.

    Raises UserError for a name that is neither.
    """
    name = target if target in known else f"report@{target}"
    if name not in known:
        names = [*known, *(n.partition("@")[2] for n in known if n.startswith("report@"))]
        raise UserError(f"no study or stage '{target}'{_closest(target, names)}")
    makers: dict[str, list[str]] = {}  # by path and by every folder above it
    for stage in known.values():
        for out in stage.outs:
            for path in (out, *map(str, Path(out).parents)):
                makers.setdefault(path, []).append(stage.name)
    done: dict[str, Stage] = {}

    def visit(stage: Stage) -> None:
        if stage.name in done:
            return
        for dep in stage.deps:
            for maker in makers.get(dep, ()):
                visit(known[maker])
        done[stage.name] = stage

    visit(known[name])
    return list(done.values())


def _closest(target: str, names: list[str]) -> str:
    """The nearest name, and no list of hundreds where none is near."""
    hint = nearest(target, names)
    return (
        hint
        if hint.startswith("; did")
        else "; a study is a name under `studies`, a stage e.g. train_student@digits-vit"
    )


TRAINED = {  # stage: section
    **{"train_teacher": "teachers", "cache_logits": "caches"},
    **{"pretrain": "pretrainings", "train_student": "experiments"},
}


def recorded_sizes(root: Path, table: dict) -> dict[str, dict[str, int]]:
    """{study: {folder: bytes}} of all outputs in the dvc.lock of the root and of each paper; of a dataset, for every
    study that uses it. Raw data, which nobody made here, are left out."""
    users: dict[str, set[str]] = {}
    for section in TRAINED.values():
        for name, block in (table.get(section) or {}).items():
            if not isinstance(block, dict) or not {"dataset", "study"} <= set(block):
                raise UserError(f"{section}.{name}: expected a block with the keys dataset and study")
            users.setdefault(block["dataset"], set()).add(block["study"])
    found: dict[str, dict[str, int]] = {}
    for path in (root / "dvc.lock", *sorted(root.glob("papers/*/dvc.lock"))):
        if path.is_file():
            _add(path, table, users, found)
    return found


def _add(path: Path, table: dict, users: dict[str, set[str]], found: dict[str, dict[str, int]]) -> None:
    lock = yaml_file.read(path)
    try:
        for name, stage in lock["stages"].items():
            kind, _, entry = name.partition("@")
            if kind == "raw":
                continue
            blocks = [of[entry] for section in TRAINED.values() if entry in (of := table.get(section) or {})]
            studies = {block["study"] for block in blocks} or users.get(entry) or {entry}
            for out in stage.get("outs", ()):
                folder = out["path"].split("/")[1] if out["path"].startswith("data/") else "reports"
                for study in studies:
                    of = found.setdefault(study, {})
                    of[folder] = of.get(folder, 0) + out["size"]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: damaged, or no lock file of DVC's ({error})") from None
