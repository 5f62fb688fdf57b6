"""How much disk the artefacts of a study take, as DVC recorded it."""

from __future__ import annotations

from pathlib import Path

from longtail.base import yaml_file
from longtail.base.errors import UserError

TRAINED = {"train_teacher": "teachers", "cache_logits": "caches", "train_student": "experiments"}  # stage: section


def recorded_sizes(root: Path, table: dict) -> dict[str, dict[str, int]]:
    """{study: {folder: bytes}} of all outputs in the dvc.lock of the root and of each paper; of a dataset, for every
    study that uses it. Raw data, which nobody made here, are left out."""
    users: dict[str, set[str]] = {}
    for section in TRAINED.values():
        for block in table[section].values():
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
            blocks = [table[section][entry] for section in TRAINED.values() if entry in table[section]]
            studies = {block["study"] for block in blocks} or users.get(entry) or {entry}
            for out in stage.get("outs", ()):
                folder = out["path"].split("/")[1] if out["path"].startswith("data/") else "reports"
                for study in studies:
                    of = found.setdefault(study, {})
                    of[folder] = of.get(folder, 0) + out["size"]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: damaged, or no lock file of DVC's ({error})") from None
