"""Where and how fast a study's runs were made, into reports/machines/<study>.json, to be committed with its results.

Reads data/{teachers,students}/<entry>.environment/seed<k>.json, which every training leaves beside its result, of the
runs that reports/metrics tells of. Of runs whose facts are not here (fetched by `dvc pull`) the record keeps what it
has, unless their settings have changed since. No stage of the pipeline writes the record or reads it: making a study
again leaves it as it is. A second.

With --same nothing is written: exit code 0 where this machine made every run of the study, and on the same kind of
processor with the same software as the record says, so that all files are to be equal; else 1.

  python stages/machines.py digits --data data --reports reports
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from longtail.base import params
from longtail.base.errors import UserError, run_main
from longtail.base.files import write_json
from longtail.base.intact import environment_of
from longtail.base.options import add_params
from longtail.evaluation.run_record import read_seed
from longtail.report import machines, results
from longtail.report.study import StudyConfig

FOLDERS = {"experiment": "students", "teacher": "teachers"}


def made_here(run: Path, metrics: dict) -> dict[str, dict]:
    """{seed: facts} of an entry's seeds that were made here. Raises UserError where its metrics tell of other runs."""
    found = {}
    for seed in metrics["seeds"]:
        folder = run / f"seed{seed}"
        path = environment_of(folder)
        if not path.is_file():
            continue
        if read_seed(folder).config_hash != metrics["config_hash"]:
            raise UserError(f"{folder}: of other settings than its metrics; run make repro first")
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            if "seconds" in told:  # else nothing but the code's digest is known
                found[seed] = {key: told.get(key) for key in machines.FACTS}
        except (ValueError, TypeError) as error:
            raise UserError(f"{path}: damaged ({error}); delete it, or train the run again") from None
    return found


def gather(name: str, study: StudyConfig, data: Path, reports: Path) -> tuple[machines.Machines, int, int]:
    """The record, how many seeds of it were made here, and how many it lacks."""
    found, old = results.load(reports / "metrics" / name, name, study), machines.load(reports, name)
    runs: dict[str, dict] = {section: {} for section in machines.SECTIONS.values()}
    here = lacking = 0
    for kind, entries in (("teacher", found.teachers), ("experiment", found.experiments)):
        for entry, metrics in entries.items():
            new = made_here(data / FOLDERS[kind] / entry, metrics)
            known = old.of(kind, entry, metrics["config_hash"])
            seeds = {seed: known[seed] for seed in metrics["seeds"] if seed in known} | new
            here, lacking = here + len(new), lacking + len(metrics["seeds"]) - len(seeds)
            if seeds:
                runs[machines.SECTIONS[kind]][entry] = {"config_hash": metrics["config_hash"], "seeds": seeds}
    return machines.Machines(runs), here, lacking


def same(name: str, study: StudyConfig, data: Path, reports: Path) -> bool:
    """Was every run of the study made here, and where the record says?"""
    found, record = results.load(reports / "metrics" / name, name, study), machines.load(reports, name)
    pairs = []
    for kind, entries in (("teacher", found.teachers), ("experiment", found.experiments)):
        for entry, metrics in entries.items():
            here = made_here(data / FOLDERS[kind] / entry, metrics)
            there = record.of(kind, entry, metrics["config_hash"])
            pairs += [(here.get(seed, {}), there.get(seed, {})) for seed in metrics["seeds"]]
    return bool(pairs) and all(machines.same_place(*pair) for pair in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", metavar="STUDY", help="name under `studies` in params.yaml")
    parser.add_argument("--data", type=Path, default=Path("data"), help="where runs lie, default: %(default)s")
    parser.add_argument("--reports", type=Path, default=Path("reports"), help="folder of all reports: %(default)s")
    add_params(parser)
    parser.add_argument(
        "--same", action="store_true", help="write nothing; exit 1 where the record tells another place"
    )
    args = parser.parse_args()
    entry = params.entry(params.load(args.params), "studies", args.study)
    study = params.build(StudyConfig, entry, f"studies.{args.study}")
    if args.same:
        sys.exit(not same(args.study, study, args.data, args.reports))
    record, here, lacking = gather(args.study, study, args.data, args.reports)
    if not here:
        raise UserError(f"{args.study}: no run of it was made here; train it first (make repro STUDY={args.study})")
    path = args.reports / "machines" / f"{args.study}.json"
    write_json(path, machines.content(args.study, record))
    print(f"{path}: {here} runs made here" + (f"; not recorded: {lacking}" if lacking else ""))


if __name__ == "__main__":
    run_main(main)
