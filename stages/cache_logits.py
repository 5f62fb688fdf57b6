"""Store the teacher's label for every view a student will see: caches.<ENTRY> of params.yaml.

    python stages/cache_logits.py ldam_drw_sam-digits --dataset data/datasets/digits_if20.npz \\
        --teacher data/teachers/ldam_drw_sam-digits_if20 --out data/caches/ldam_drw_sam-digits

Walks the views of every epoch in the order training will (repeated augmentation, two virtual ranks, mix groups), each a
pure function of (seed, epoch, position), and keeps the argmax of the float32 teacher: OUT/seed<k>/labels.npy, one byte
a view (CIFAR-10-LT, 1200 epochs: 14.7 MB), and meta.json with the checksums a student verifies. With `top_k` also each
view's most probable classes and their log probabilities. Resumes by epoch; on a CPU, seeds and then epochs are shared
out to one process a core.
With --verify nothing is built: sampled epochs of OUT are made again (in --jobs processes) and the agreement of pixels
and labels is printed.
Cost: about 1.6 ms a view at 224 px on one core (Pillow); digits 24 px 0.1 ms.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import torch

from longtail.base import params
from longtail.base.errors import UserError, run_main
from longtail.base.options import add_device, add_params
from longtail.data.long_tail import LongTail
from longtail.runs import seeds
from longtail.runs.probe import Probe
from longtail.runs.single_run import identity
from longtail.training.cache import CacheConfig, build_cache, verify
from longtail.training.cache_probe import cache_probe
from longtail.training.labeller import labeller_digest, load_labeller
from longtail.training.labels import TeacherLabels, seed_folder, views_hash
from longtail.training.teacher_config import check_floor
from longtail.views.student_views import ViewRecipe, Views


def run(name, config: CacheConfig, recipe: ViewRecipe, data: LongTail, teacher: Path, device, seed: int, workspace):
    """Build the labels of one seed in workspace.result."""
    folder = seed_folder(teacher, seed)
    labeller = load_labeller(config.teacher_kind, folder, data, recipe, device)
    if config.teacher_kind == "teachers":
        check_floor(folder, config.must_reach or labeller.trained_as.must_reach, labeller.select)
    facts = {
        "cache": name,
        "seed": seed,
        "views": config.views,
        "teacher": config.teacher,
        "teacher_run": folder.name,
        "teacher_select": labeller.select,
        "teacher_digest": labeller_digest(config.teacher_kind, folder),
        "dataset": data.name,
        "dataset_digest": data.digest,
        "num_classes": data.num_classes,
        "class_order": data.class_order,
        "class_names": list(data.class_names),
    }
    build_cache(
        labeller.network,
        Views(recipe, data.train_images, seed, device=device, labels=data.train_labels),
        data.train_labels,
        config.epochs,
        facts,
        workspace,
        config.top_k,
        labeller.logit_scale,
        workers_of(device),
    )
    resolved = {**own(config), "views": recipe}
    workspace.write_meta(resolved, seed=seed, class_order=data.class_order, dataset_digest=data.digest)


def workers_of(device, jobs: int = 0) -> int:
    """Processes that share the epochs of a seed; unless told, one for each thread this process was given."""
    return (jobs or torch.get_num_threads()) if device.type == "cpu" else 1


def probe(config: CacheConfig, recipe: ViewRecipe, data: LongTail, teacher: Path, seed: int) -> Probe:
    """What the code computes for the labels of one seed."""
    labeller = load_labeller(config.teacher_kind, seed_folder(teacher, seed), data, recipe, "cpu")
    views = Views(recipe, data.train_images, seed, labels=data.train_labels)
    return cache_probe(labeller.network, views, config.epochs)


def own(config: CacheConfig) -> dict:
    """The entry without its list of seeds, so that adding a seed changes no other's labels."""
    return {key: value for key, value in params.plain(config).items() if key != "seeds"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("entry", help="name under `caches` in params.yaml")
    parser.add_argument("--dataset", type=Path, required=True, help="npz of stages/subsample.py")
    parser.add_argument(
        "--teacher",
        type=Path,
        required=True,
        help="folder with seed<k>/, of the entry's teacher_kind",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the cache: <out>/seed<k>/")
    add_params(parser)
    add_device(parser)
    parser.add_argument("--jobs", type=int, default=0, help="seeds at a time (default: one per core; one on CUDA)")
    parser.add_argument(
        "--verify", type=int, metavar="EPOCHS", help="check this many epochs of OUT instead of building"
    )
    args = parser.parse_args()
    everything, where = params.load(args.params), f"caches.{args.entry}"
    config = params.build(CacheConfig, params.entry(everything, "caches", args.entry), where)
    recipe = params.build(ViewRecipe, params.entry(everything, "views", config.views), f"views.{config.views}")
    data = LongTail.load(args.dataset)
    if data.name != config.dataset:
        raise UserError(f"{where}.dataset is '{config.dataset}' but {args.dataset} holds '{data.name}'")
    device = seeds.pick_device(args.device)
    if args.verify is not None:
        if args.verify < 1:
            raise UserError(f"--verify {args.verify}: how many epochs to check, at least 1")
        workers = workers_of(device, args.jobs)
        for seed in config.seeds:
            folder = seed_folder(args.teacher, seed)
            labeller = load_labeller(config.teacher_kind, folder, data, recipe, device)
            cache = TeacherLabels.load(args.out / f"seed{seed}")
            made_for = {
                "seed": seed,
                "dataset_digest": data.digest,
                "views_hash": views_hash(recipe),
                "teacher_digest": labeller_digest(config.teacher_kind, folder),
            }
            for key, value in made_for.items():
                if cache.meta[key] != value:
                    what = f"its {key} is {cache.meta[key]}, what it is held against has {value}"
                    raise UserError(f"{args.out}/seed{seed}: {what}; make the cache again")
            views = Views(recipe, data.train_images, seed, device=device, labels=data.train_labels)
            print(f"{args.entry} seed {seed}: " + verify(cache, labeller.network, views, args.verify, workers))
        return
    identities = {}
    for seed in config.seeds:
        teacher = labeller_digest(config.teacher_kind, seed_folder(args.teacher, seed))
        identities[seed] = identity(own(config), recipe, seed, data.digest, teacher)
    work = partial(run, args.entry, config, recipe, data, args.teacher, device)
    probed = partial(probe, config, recipe, data, args.teacher)
    seeds.run_seeds(work, identities, args.out, device, args.jobs, probe=probed)


if __name__ == "__main__":
    run_main(main)
