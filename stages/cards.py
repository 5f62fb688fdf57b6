"""Cards for registries: each data set as Croissant (JSON-LD), each committed run as a model card (Markdown).

Read from the params files, docs/data_sources.yaml, dvc.lock and the records in reports/. With --check nothing is
written and the exit code is 1 when a card is out of date. A few seconds.

  python stages/cards.py --reports reports --sources docs/data_sources.yaml \\
      --words docs/words.yaml --out reports/cards
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from longtail.base import params
from longtail.base.errors import run_main
from longtail.base.files import new_folder
from longtail.base.options import add_params
from longtail.base.text import note
from longtail.report import machines, reading, results
from longtail.report.cards import data_card, model_card
from longtail.report.pages.run_page import Run, labels, named
from longtail.report.review.words import Words
from longtail.report.study import StudyConfig


def committed(table: dict, reports: Path, titles: Mapping[str, str]) -> Iterator[tuple[Run, StudyConfig]]:
    """Every run of which records, diagnosis and metrics are there. titles: of data sets."""
    blocks = (table.get("studies") or {}).items()
    studies = {name: params.build(StudyConfig, block, f"studies.{name}") for name, block in blocks}
    words = {**labels(studies.values()), **titles}
    for name, study in studies.items():
        found = results.load(reports / "metrics" / name, name, study)
        record = machines.load(reports, name)
        for kind, items, of in (
            ("teacher", study.teachers, found.teachers),
            ("experiment", study.experiments, found.experiments),
        ):
            for item in items:
                below = f"{name}/{'teachers/' if kind == 'teacher' else ''}{item.name}"
                run, diagnosed = (read(reports / "runs" / below) for read in (reading.run_record, reading.diagnostics))
                if item.name in of and run is not None and diagnosed is not None:
                    metrics = of[item.name]
                    made = record.of(kind, item.name, metrics["config_hash"])
                    about = (item.name, kind, name, item.label, diagnosed, run, metrics, None, made)
                    yield Run(*about, named(run, words)), study


def cards(table: dict, reports: Path, sources: Path, root: Path, titles: Mapping[str, str]) -> dict[str, str]:
    """{path below the folder of cards: text}. titles: of data sets."""
    known, made, counted = data_card.sources(sources), data_card.locked(root), data_card.counted(table, reports)
    of = {name: known.get(block["raw"]) for name, block in (table.get("datasets") or {}).items()}
    found = {}
    for name, source in of.items():
        if source is None:
            note(f"no card of datasets.{name}: none of {sources} has {table['datasets'][name]['raw']} in `raw`")
            continue
        card = data_card.card(name, table, source, made, counted.get(name))
        found[f"data/{name}.json"] = json.dumps(card, indent=1, ensure_ascii=False) + "\n"
    for run, study in committed(table, reports, titles):
        source, place = of.get(run.metrics["dataset"]), (table.get("place") or {}).get(run.study, "")
        stored = (reports / "weights" / f"{run.folder}.safetensors").is_file()
        known_of = source and source.known
        found[f"models/{run.folder}.md"] = model_card.card(run, study.comparable, known_of, place, stored)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reports", type=Path, required=True, help="folder of all reports; may lack entries")
    parser.add_argument("--sources", type=Path, required=True, help="whose images they are, docs/data_sources.yaml")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; replaced when complete")
    parser.add_argument("--words", type=Path, help="what data sets are called, docs/words.yaml; else by their names")
    add_params(parser)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a card is out of date")
    args = parser.parse_args()
    root = args.params.parent if args.params else Path()
    titles = params.read(Words, args.words).datasets if args.words else {}
    made = cards(params.load(args.params), args.reports, args.sources, root, titles)
    if args.check:
        there = {path.relative_to(args.out).as_posix() for path in args.out.rglob("*") if path.is_file()}
        old = sorted(name for name in there & set(made) if (args.out / name).read_text(encoding="utf-8") != made[name])
        if wrong := sorted(there ^ set(made)) + old:
            print(f"{args.out / wrong[0]}: out of date; run python stages/cards.py without --check", file=sys.stderr)
            sys.exit(1)
        return
    with new_folder(args.out) as folder:
        for name, text in made.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    run_main(main)
