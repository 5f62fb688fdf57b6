"""What scripts are made of (longtail/base/source.py), looked at before Snakemake's plan is made."""

from __future__ import annotations

import hashlib

from longtail.base import source

STAGE = "code"  # of workflow/dvc.yaml


def look(stages: list, *, run: bool) -> dict[str, str]:
    """The lists of what scripts are made of come before all else, since stages are stale by them. run: make them, here,
    in seconds; else nothing is written. Gives {path: md5 as it has to be} of those that stay out of date."""
    code = next((stage for stage in stages if stage.name == STAGE), None)
    if code is None or not code.changed():
        return {}
    if not run:
        found = source.outdated().items()
        return {str(source.MADE / name): hashlib.md5(text.encode()).hexdigest() for name, text in found}
    code.reproduce()
    code.dump(update_pipeline=False)
    return {}


def changed(stage, wanted: dict[str, str]) -> bool:
    """Is a stage stale, where its lists were as they have to be? wanted: as `look` gives them."""
    deps, held = stage.deps, [dep for dep in stage.deps if str(dep) in wanted]
    if any(dep.hash_info.value != wanted[str(dep)] for dep in held):
        return True
    stage.deps = [dep for dep in deps if dep not in held]
    try:
        return stage.changed()
    finally:
        stage.deps = deps
