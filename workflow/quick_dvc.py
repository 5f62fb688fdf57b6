"""DVC's command line, with a quicker and safer way to write dvc.lock: `python -m workflow.quick_dvc repro`.

After every stage DVC reads the whole dvc.lock with ruamel.yaml's round-trip parser and writes it anew in place: seconds
for the root's, a good part of `make repro`, and a kill in that moment leaves a torn file. Here the text of
the stage that ran is replaced, and the file goes in by rename. The bytes are those that DVC writes; what does not look
as DVC leaves it goes DVC's own way. Everything else is DVC itself, and a plain `dvc repro` does the same, slower.

For every stage DVC parses its params.yaml anew, and for every command it reads the dvc.yaml of all folders. Here a text
is parsed once (workflow/once.py), and workflow/study.py, which knows what a study needs, names fewer folders.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import dvc.dvcfile
import dvc.repo.index
from dvc.cli import main
from dvc.utils.serialize import dumps_yaml, modify_yaml, parse_yaml_for_update

from longtail.base.files import atomic_write
from workflow import once

SHARED = re.compile(r"[&*]id\d{3}")  # an anchor of ruamel.yaml's, where a value stands in two places
STAGE = re.compile(r"^  (?=\S)", re.MULTILINE)  # deeper lines are a stage's own, folded text among them


def texts(text: str, names: list[str]) -> dict[str, str] | None:
    """{stage: its lines} of a dvc.lock's text; None where it is not laid out as by DVC. names: its stages, in order."""
    head, *blocks = STAGE.split(text)
    if head != once.HEADER or len(blocks) != len(names):
        return None
    return {name: f"  {block}" for name, block in zip(names, blocks, strict=True)}


@contextmanager
def modify(path: str | os.PathLike, fs=None, slow: Callable = modify_yaml) -> Iterator[dict]:
    """As DVC's modify_yaml, which is `slow`: the content of a YAML file, written when the block is left."""
    file = Path(path)
    text = file.read_text("utf-8") if file.name == "dvc.lock" and file.is_file() else ""
    data = once.lock(text, str(path)) if text.startswith(once.HEADER) else {}
    before: Mapping[str, dict] = dict(data.get("stages") or {})
    parts = texts(text, list(before)) if list(data) == ["schema", "stages"] else None
    if parts is None:
        with slow(path, fs=fs) as data:
            yield data
        return
    yield data
    now = data["stages"]
    changed = {name: stage for name, stage in now.items() if stage != before.get(name)}
    made = {name: dumps_yaml({"stages": {name: stage}}).removeprefix("stages:\n") for name, stage in changed.items()}
    if list(data) != ["schema", "stages"] or list(now)[: len(before)] != list(before):
        whole = dumps_yaml(data)  # more than a stage that ran: a data set, say
    elif any(SHARED.search(lines) for name in made for lines in (made[name], parts.get(name, ""))):
        all_of_it = parse_yaml_for_update(text, str(path))  # anchors are numbered through the whole file
        all_of_it["stages"].update(changed)
        whole = dumps_yaml(all_of_it)
    else:
        whole = once.HEADER + "".join((parts | made).values())
    if whole != text:
        atomic_write(file, lambda temporary: temporary.write_text(whole, encoding="utf-8"))
        once.remember(whole, str(path), data)


_collect_files = dvc.repo.index.collect_files


def run(*arguments: str, files: Iterable[str] | None = None) -> int:
    """DVC's command line; its exit code. files: the dvc.yaml files that it reads, from the root; None: all."""

    def collect_files(repo, onerror: Callable | None = None) -> Iterator[tuple[str, dvc.repo.index.Index]]:
        if files is None:
            yield from _collect_files(repo, onerror)
            return
        for path in (repo.fs.join(repo.root_dir, *file.split("/")) for file in files):
            if repo.fs.exists(path):
                yield path, dvc.repo.index.Index.from_file(repo, path)

    dvc.dvcfile.modify_yaml, dvc.repo.index.collect_files = modify, collect_files
    once.install()
    return main(list(arguments))


if __name__ == "__main__":
    sys.exit(run(*sys.argv[1:]))
