"""Train one experiment's students: experiments.<ENTRY> of params.yaml, every seed of it.

    python stages/train_student.py digits-deit_lt --dataset data/datasets/digits_if20.npz \\
        --cache data/caches/ldam_drw_sam-digits --out data/students/digits-deit_lt

The method's loss is longtail/methods/<method>.py; views, model and schedule are the entry's. Labels come from --cache,
or from --teacher run online where the entry says `cache: none`; both give the same labels. An entry that starts from
another run, of an experiment or a pretraining, takes seed k's weights of --start-from first. OUT/seed<k>/ gets the
weights, the resolved config.yaml, history.csv, identity.json, probe.json and the test logits at the last and the best
epoch. A run that is killed continues from its own checkpoint; finished seeds of this very configuration are kept.
Several GPUs train one student: LONGTAIL_NPROC=4 in the environment here, `torchrun` on several machines
(docs/cluster.md). The result is that of one process but for the order of float sums.
Cost: digits 25 s a seed on one core; ViT-Ti at 224 px 12 core-days on a CPU, about 10 minutes on an H200 (estimate).
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from longtail.base import environment, params
from longtail.base.errors import UserError, run_main
from longtail.base.options import add_device, add_params
from longtail.data.long_tail import LongTail
from longtail.runs import seeds as runs
from longtail.runs.execution import add_options, chosen
from longtail.runs.launch import launch
from longtail.runs.parallel import Team, joined
from longtail.runs.probe import Probe
from longtail.runs.single_run import identity
from longtail.training.experiment import StudentConfig, resolve
from longtail.training.labeller import labeller_digest, load_labeller
from longtail.training.labels import TeacherLabels, labelled_by, labels_digest, seed_folder
from longtail.training.student import train_student
from longtail.training.student_probe import student_probe
from longtail.training.student_run import StudentRun, read_pretraining, read_start, start_digest
from longtail.training.teacher_config import check_floor
from longtail.views.student_views import Views


def taught_by(config: StudentConfig, data: LongTail, source: Path | None, device, seed: int, epochs: int):
    """What the student learns from, a cache's labels, an online teacher or None, and its digest for identity.json.
    source: the cache's or the teacher's folder with its seeds, or None; epochs: whose pixels in a cache are checked."""
    labels, facts = None, {}
    if source is not None and config.cache != "none":
        folder = seed_folder(source, seed)
        labels = TeacherLabels.load(folder)
        views = Views(config.views, data.train_images, seed, device=device, labels=data.train_labels)
        labels.check(views, data, seed, config.train.epochs, str(folder), epochs)
        if labels.meta["cache"] != config.cache:
            raise UserError(f"{folder}: is cache {labels.meta['cache']}, the experiment names {config.cache}")
        facts = {"teacher_digest": labels.meta["teacher_digest"]}
    elif source is not None:
        folder = seed_folder(source, seed)
        found = load_labeller("teachers", folder, data, config.views, device)
        check_floor(folder, found.trained_as.must_reach, found.select)
        labels, facts = found.network, {"teacher_digest": labeller_digest("teachers", folder)}
    return labels, facts


def started(config: StudentConfig, data: LongTail, begun: Path | None, seed: int) -> StudentRun | None:
    """The run that seed k starts from, checked. begun: the folder of its experiment or pretraining, or None."""
    if begun is None:
        return None
    if config.pretrained is None:
        return read_start(begun, seed, config.start, data)
    return read_pretraining(begun, seed, config.start, config.pretrained, data)


def run(
    config: StudentConfig, data: LongTail, source: Path | None, begun: Path | None, device, execution, seed, workspace
):
    """Train one seed. begun: the folder of the experiment that it starts from, or None."""
    labels, facts = taught_by(config, data, source, device, seed, 2 if workspace.team.leads else 0)
    facts |= {} if begun is None else {"start_digest": start_digest(begun, seed)}
    train_student(config, data, seed, labels, workspace, device, execution, facts, started(config, data, begun, seed))


def probe(config: StudentConfig, data: LongTail, source: Path | None, begun: Path | None, seed: int) -> Probe:
    """What the code computes for one seed."""
    labels, _ = taught_by(config, data, source, "cpu", seed, epochs=0)
    return student_probe(config, data, seed, labels, started(config, data, begun, seed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("entry", help="name under `experiments` in params.yaml")
    parser.add_argument("--dataset", type=Path, required=True, help="npz of stages/subsample.py")
    parser.add_argument("--cache", type=Path, help="folder of stages/cache_logits.py, with seed<k>/")
    parser.add_argument("--teacher", type=Path, help="folder of stages/train_teacher.py, for `cache: none`")
    parser.add_argument("--start-from", type=Path, help="folder of the run that it starts from, here or by pretrain.py")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results: <out>/seed<k>/")
    add_params(parser)
    add_device(parser)
    add_options(parser)
    parser.add_argument(
        "--micro-batch",
        type=int,
        default=environment.of(environment.MICRO_BATCH),
        help="views a forward pass, to bound memory (default: LONGTAIL_MICRO_BATCH, or 0: all of a step)",
    )
    parser.add_argument("--jobs", type=int, default=0, help="seeds at a time (default: one per core; one on CUDA)")
    args = parser.parse_args()
    launch(sys.argv)
    with joined(runs.pick_device(args.device)) as (team, device):
        train(args, team, device)


def train(args: argparse.Namespace, team: Team, device) -> None:
    """Check what was asked for and train every seed that is missing."""
    everything, entry = params.load(args.params), args.entry
    config, seeds = resolve(everything, entry)
    if params.entry(everything, "experiments", entry).get("released"):
        raise UserError(
            f"experiments.{entry} is a released checkpoint and is not trained here; take it over with"
            f" stages/import_checkpoint.py FILE --kind student --like {entry} (docs/checkpoints.md)"
        )
    data = LongTail.load(args.dataset)
    if data.name != config.dataset:
        raise UserError(f"experiments.{entry}.dataset is '{config.dataset}' but {args.dataset} holds '{data.name}'")
    if args.micro_batch % config.views.mix_group:
        raise UserError(f"--micro-batch {args.micro_batch}: must be a multiple of mix_group {config.views.mix_group}")
    cached, online = config.cache != "none", config.cache == "none" and config.teacher != "none"
    source = args.cache if cached else args.teacher if online else None
    if (cached or online) and source is None:
        option = "--cache" if cached else "--teacher"
        raise UserError(f"experiments.{entry} learns from a teacher; pass {option} FOLDER")
    if args.jobs > 1 and team.size > 1:
        raise UserError(f"--jobs {args.jobs}: {team.size} processes train one seed after the other; leave it out")
    begun = args.start_from if config.start != "none" else None
    if config.start != "none" and begun is None:
        raise UserError(f"experiments.{entry} starts from a run of {config.start}; pass --start-from FOLDER")
    execution, identities, made_from = chosen(args, device, args.micro_batch), {}, {}
    for seed in seeds:
        upstream = None
        if source is not None:
            folder = seed_folder(source, seed)
            upstream = labels_digest(folder) if cached else labeller_digest("teachers", folder)
            made_from[seed] = labelled_by(folder) if cached else {}
        first = begun and start_digest(begun, seed, "train_student" if config.pretrained is None else "pretrain")
        identities[seed] = identity(config, seed, data.digest, upstream, first)
    work = partial(run, config, data, source, begun, device, execution)
    probed = partial(probe, config, data, source, begun)
    runs.run_seeds(work, identities, args.out, device, args.jobs, team, probed, made_from)


if __name__ == "__main__":
    run_main(main)
