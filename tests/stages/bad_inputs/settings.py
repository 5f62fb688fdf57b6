"""Settings in params.yaml that no stage takes: what is changed, the stage that reads it, and what it says."""

from __future__ import annotations

from collections.abc import Callable

from tests.helpers.stage_processes import CACHE, STUDENT, SUBSAMPLE, TABLES, TEACHER, VIT


def put(path: str, value) -> Callable[[dict], None]:
    """A change of params.yaml: the value at a dotted path."""

    def change(params: dict) -> None:
        *blocks, key = path.split(".")
        for block in blocks:
            params = params[block]
        params[key] = value

    return change


def take(path: str) -> Callable[[dict], None]:
    def change(params: dict) -> None:
        *blocks, key = path.split(".")
        for block in blocks:
            params = params[block]
        del params[key]

    return change


def other_dataset(params: dict) -> None:
    put("datasets.other", params["datasets"]["tiny"])(params)
    put("experiments.tiny-vit.dataset", "other")(params)


PARAMS = {  # what is wrong: (change, command, what is said)
    "unknown key of a dataset": (
        *(put("datasets.tiny.imbalance", 10.0), SUBSAMPLE),
        "datasets.tiny.imbalance: unknown key; did you mean 'imbalance_factor'?",
    ),
    "unknown key of a teacher": (
        *(put("teachers.ldam_drw_sam-tiny.momentums", 0.9), TEACHER),
        "teachers.ldam_drw_sam-tiny.momentums: unknown key; did you mean 'momentum'?",
    ),
    "a teacher of no known kind": (
        *(put("caches.ldam_drw_sam-tiny.teacher_kind", "student"), CACHE),
        "caches.ldam_drw_sam-tiny.teacher_kind: 'student' is not one of teachers, students; did you mean 'students'?",
    ),
    "unknown key of a cache": (
        *(put("caches.ldam_drw_sam-tiny.epoch", 3), CACHE),
        "caches.ldam_drw_sam-tiny.epoch: unknown key; did you mean 'epochs'?",
    ),
    "unknown key of views": (
        *(put("views.tiny.repeat", 3), CACHE),
        "views.tiny.repeat: unknown key; did you mean 'repeats'?",
    ),
    "unknown key of an experiment": (
        *(put("experiments.tiny-vit.recipes", "tiny"), VIT),
        "experiments.tiny-vit.recipes: unknown key; did you mean 'recipe'?",
    ),
    "unknown key of a recipe": (
        *(put("recipes.tiny.train.lrs", 1.0), VIT),
        "experiments.tiny-vit (recipes.tiny.train).lrs: unknown key; did you mean 'lr'?",
    ),
    "unknown block of a recipe": (
        *(put("recipes.tiny.trains", {}), VIT),
        "recipes.tiny.trains: unknown block; a recipe has model and train",
    ),
    "unknown key of a method": (
        *(put("methods.deit_lt.alfa", 0.5), STUDENT),
        "experiments.tiny-deit_lt (methods.deit_lt).alfa: unknown key; did you mean 'alpha'?",
    ),
    "unknown key of an override": (
        *(put("experiments.tiny-vit.set", {"model": {"dims": 8}}), VIT),
        "experiments.tiny-vit.set.model.dims: unknown key; did you mean 'dim'?",
    ),
    "unknown key of a study": (
        *(put("studies.tiny.titel", "x"), TABLES),
        "studies.tiny.titel: unknown key; did you mean 'title'?",
    ),
    "unknown section": (put("teacher", {}), SUBSAMPLE, "unknown section 'teacher'; did you mean 'teachers'?"),
    "missing key": (
        *(take("teachers.ldam_drw_sam-tiny.lr"), TEACHER),
        "teachers.ldam_drw_sam-tiny.lr: missing; TeacherConfig needs it",
    ),
    "1e-3 in quotes": (
        *(put("teachers.ldam_drw_sam-tiny.lr", "1e-3"), TEACHER),
        "teachers.ldam_drw_sam-tiny.lr: expected float, found '1e-3' (str); write 0.001",
    ),
    "1e-3 in quotes in a recipe": (
        *(put("recipes.tiny.train.lr", "1e-3"), STUDENT),
        "experiments.tiny-deit_lt (recipes.tiny.train).lr: expected float, found '1e-3' (str); write 0.001",
    ),
    "text for a number": (
        *(put("views.tiny.size", "large"), CACHE),
        "views.tiny.size: expected int, found 'large' (str)",
    ),
    "float for an int": (put("datasets.tiny.n_max", 40.5), SUBSAMPLE, "datasets.tiny.n_max: expected int, found 40.5"),
    "a value for a list": (
        *(put("caches.ldam_drw_sam-tiny.seeds", 0), CACHE),
        "caches.ldam_drw_sam-tiny.seeds: expected a list, found 0",
    ),
    "an unknown choice": (
        *(put("datasets.tiny.source", "digit"), SUBSAMPLE),
        "datasets.tiny.source: 'digit' is not one of digits, cifar10, cifar100, imagefolder, list, inat, csv;"
        " did you mean 'digits'?",
    ),
    "an unknown method": (
        *(put("experiments.tiny-vit.method", "deit_tl"), VIT),
        "experiments.tiny-vit.method: no entry 'deit_tl' in methods; did you mean 'deit_lt'?",
    ),
    "an unknown cache": (
        *(put("experiments.tiny-deit_lt.cache", "ldam_drw_sam-tin"), STUDENT),
        "experiments.tiny-deit_lt.cache: no entry 'ldam_drw_sam-tin' in caches; did you mean 'ldam_drw_sam-tiny'?",
    ),
    "no teacher": (
        *(put("experiments.tiny-deit_lt.cache", "none"), STUDENT),
        "method deit_lt needs a teacher; name a cache, or a teacher to run online",
    ),
    "no seeds": (put("experiments.tiny-vit.seeds", []), VIT, "no seed"),
    "another dataset's file": (
        *(other_dataset, VIT),
        "experiments.tiny-vit.dataset is 'other' but data/datasets/tiny.npz holds 'tiny'",
    ),
    "evaluation smaller than the input": (
        *(put("recipes.tiny.train.eval_resize", 16), VIT),
        "experiments.tiny-vit: eval_resize 16 is below the model's 24 px",
    ),
    "views of another size": (
        *(put("recipes.tiny.model.image_size", 30), VIT),
        "experiments.tiny-vit: the model takes 30 px, views.tiny makes 24",
    ),
    "odd groups": (put("views.tiny.mix_group", 7), VIT, "views.tiny: mix_group must be even, found 7"),
    "no probability": (put("views.tiny.hflip", 1.5), CACHE, "views.tiny: hflip is a probability, found 1.5"),
    "more ranks than images": (put("views.tiny.virtual_world", 500), VIT, "159 images are too few for 500 ranks"),
    "more ranks than images to label": (put("views.tiny.virtual_world", 500), CACHE, "are too few for 500 ranks"),
    "an empty tail": (put("datasets.tiny.cuts", [3, 10]), SUBSAMPLE, "datasets.tiny.cuts: [3, 10] leaves no tail"),
    "more images than there are": (
        *(put("datasets.tiny.n_max", 4000), SUBSAMPLE),
        "datasets.tiny: class '0' would keep 4000 of its",
    ),
    "a teacher that diverges": (
        *(put("teachers.ldam_drw_sam-tiny.lr", 1.0e30), TEACHER),
        "teacher diverged: training loss is nan in epoch",
    ),
    "a student that diverges": (
        *(put("recipes.tiny.train.lr", 1.0e30), VIT),
        "student diverged: training loss is nan in epoch",
    ),
}
