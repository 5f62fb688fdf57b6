"""The weights of a study's runs, small enough for git, into reports/weights/<study>/, to be committed with its results.

Of each run that reports/metrics tells of, the first seed's model.safetensors at the last epoch, as
reports/weights/<study>/[teachers/]<entry>.safetensors. A file over 1 MB is left out and named; one whose run is not the
one in reports/runs is refused. No stage of the pipeline writes these files or reads them. A second.

  python stages/weights.py digits --data data --reports reports
"""

from __future__ import annotations

import argparse
from pathlib import Path

from longtail.base import params
from longtail.base.errors import UserError, run_main
from longtail.base.files import new_folder
from longtail.base.options import add_params
from longtail.base.text import note
from longtail.evaluation.run_record import read_seed
from longtail.report import reading, results
from longtail.report.study import StudyConfig

FOLDERS = {"experiment": "students", "teacher": "teachers"}
LARGEST = 1_000_000  # bytes of a file in git


def first(kind: str, entry: str, metrics: dict, data: Path, record: dict | None) -> bytes:
    """The weights of an entry's first seed. Raises UserError where they are not here, or of another run than record."""
    seed = next(iter(metrics["seeds"]))
    folder = data / FOLDERS[kind] / entry / f"seed{seed}"
    path = folder / "model.safetensors"
    if not path.is_file():
        raise UserError(f"{path}: not here; run dvc pull, or make repro")
    told = (record or {"seeds": {}})["seeds"].get(seed, {}).get("identity", {}).get("identity")
    if read_seed(folder).facts["identity"] != told:
        raise UserError(f"{folder}: not the run that reports/runs tells of; run make repro first")
    return path.read_bytes()


def gather(name: str, study: StudyConfig, data: Path, reports: Path) -> dict[str, bytes]:
    """{path below the study's folder: weights}, those of a megabyte at most."""
    found, kept = results.load(reports / "metrics" / name, name, study), {}
    for kind, entries in (("teacher", found.teachers), ("experiment", found.experiments)):
        for entry, metrics in entries.items():
            place = f"teachers/{entry}" if kind == "teacher" else entry
            weights = first(kind, entry, metrics, data, reading.run_record(reports / "runs" / name / place))
            if len(weights) > LARGEST:
                note(f"{entry}: {len(weights):,} bytes of weights are left out; at most {LARGEST:,} go into git")
            else:
                kept[f"{place}.safetensors"] = weights
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", help="name under `studies`")
    parser.add_argument("--data", type=Path, default=Path("data"), help="students/ and teachers/ under it")
    parser.add_argument("--reports", type=Path, default=Path("reports"), help="metrics/ and runs/ under it")
    add_params(parser)
    args = parser.parse_args()
    block = params.entry(params.load(args.params), "studies", args.study)
    study = params.build(StudyConfig, block, f"studies.{args.study}")
    kept = gather(args.study, study, args.data, args.reports)
    with new_folder(args.reports / "weights" / args.study) as folder:
        for name, weights in kept.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(weights)
    print(f"{args.reports / 'weights' / args.study}: {len(kept)} files, {sum(map(len, kept.values())) / 1e6:.1f} MB")


if __name__ == "__main__":
    run_main(main)
