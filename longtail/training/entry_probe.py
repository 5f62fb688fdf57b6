"""The probe of any entry of params.yaml on made images, without training, data or weights: what every recipe does.

Exact facts and schedules alone, of a few views, with parameters on the meta device: a fraction of a second an entry.
They are kept in git for every entry and compared by a test: the cheapest check that an edit changes no recipe, and that
every full recipe at least starts.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

from torch import nn

from longtail.base.errors import UserError
from longtail.base.files import write_text
from longtail.base.params import build, entry
from longtail.data.config import DatasetConfig
from longtail.data.made_data import made_data
from longtail.models.build import CnnParts, build_network
from longtail.models.mae import MaskedAutoencoder
from longtail.models.shapes import on_meta
from longtail.runs.probe import Probe
from longtail.training.cache import CacheConfig
from longtail.training.cache_probe import cache_facts
from longtail.training.experiment import load_method, resolve
from longtail.training.pretraining_config import resolve_pretraining
from longtail.training.pretraining_probe import pretraining_facts
from longtail.training.student_probe import student_facts
from longtail.training.student_run import freeze
from longtail.training.supervised import supervised_views
from longtail.training.teacher import build_model
from longtail.training.teacher_config import TeacherConfig
from longtail.training.teacher_probe import teacher_facts
from longtail.training.teacher_tasks import contrastive_views
from longtail.views.recipe import ViewRecipe
from longtail.views.student_views import Views

PROBED = ("teachers", "caches", "pretrainings", "experiments")  # trained, or made by a network
VIEWS = 4  # of an epoch
SHORT = 16  # digits of a checksum
SAID = "distil.teacher_dataset"  # the key of an entry that learns from one of another dataset
COMMITTED = Path("tests/training/probes")


def entry_probe(params: dict, section: str, name: str) -> Probe:
    """Of the entry's first seed. Raises UserError where the entry is wrong or names what is not there."""
    of = {"teachers": _teacher, "caches": _cache, "pretrainings": _pretraining, "experiments": _experiment}
    return of[section](params, name)


def _experiment(params: dict, name: str) -> Probe:
    config, seeds = resolve(params, name)
    dataset = config.dataset, _dataset(params, config.dataset)
    data = _data(*dataset)
    method = load_method(config.method).Method(config.loss, data.class_counts)
    views = _views(config.views, seeds[0], *dataset)
    shape = config.model, data.num_classes, method.distilled, method.head
    if method.head_only:
        freeze(model := on_meta(build_network, *shape))
    else:
        model = _network(*shape)
    return student_facts(config, data, views, method, model, VIEWS)


def _pretraining(params: dict, name: str) -> Probe:
    config, seeds = resolve_pretraining(params, name)
    views = _views(config.views, seeds[0], config.dataset, _dataset(params, config.dataset))
    return pretraining_facts(config, views, on_meta(MaskedAutoencoder, config.model, config.decoder), VIEWS)


def _teacher(params: dict, name: str) -> Probe:
    config = build(TeacherConfig, entry(params, "teachers", name), f"teachers.{name}")
    check_sources(params, name, config)
    data, seed = _data(config.dataset, _dataset(params, config.dataset)), config.seeds[0]
    views = (contrastive_views if config.loss == "paco" else supervised_views)(config, data, seed, "cpu")
    return teacher_facts(config, data, seed, views, _teachers_network(config, data.num_classes), VIEWS)


def check_sources(params: dict, name: str, config: TeacherConfig) -> None:
    """Raises UserError where an entry of `teachers` learns from none that is there, from one of another dataset that it
    does not name, of other seeds, or, over others, from itself."""
    for source in (source for source in config.sources if source != "none"):
        where = f"teachers.{name}.sources"
        taught = build(TeacherConfig, entry(params, "teachers", source), f"{where}: teachers.{source}")
        expected, said = config.source_dataset or config.dataset, "start.dataset" if config.start else SAID
        if taught.dataset != expected:
            raise UserError(
                f"{where}: {source} is trained on {taught.dataset}, not on {expected}; if that is meant, say "
                f"{said}: {taught.dataset}"
            )
        if len(taught.seeds) != 1 and not set(config.seeds) <= set(taught.seeds):
            raise UserError(f"{where}: {source} has seeds {list(taught.seeds)}, the entry {list(config.seeds)}")
        above, seen = [source], {name}
        while above:
            if (one := above.pop()) in seen:
                raise UserError(f"{where}: {name} would learn from itself, by way of {source}")
            of = entry(params, "teachers", one).get("sources") or ()
            above += [other for other in of if other != "none"]


def _cache(params: dict, name: str) -> Probe:
    config = build(CacheConfig, entry(params, "caches", name), f"caches.{name}")
    recipe = build(ViewRecipe, entry(params, "views", config.views), f"views.{config.views}")
    views = _views(recipe, config.seeds[0], config.dataset, _dataset(params, config.dataset))
    return cache_facts(views, config.epochs, VIEWS)


# Entries share data, views and networks, none of which a probe changes: each is made once.
_data = cache(made_data)


@cache
def _views(recipe: ViewRecipe, seed: int, *dataset) -> Views:
    data = _data(*dataset)
    return Views(recipe, data.train_images, seed, labels=data.train_labels)


@cache
def _network(*shape) -> nn.Module:
    return on_meta(build_network, *shape)


_networks: dict[tuple[CnnParts, int], nn.Module] = {}  # of teachers


def _teachers_network(config: TeacherConfig, classes: int) -> nn.Module:
    """Entries of the same parts, of which `build_model` makes all of it, share one."""
    if (shape := (config.parts, classes)) not in _networks:
        _networks[shape] = on_meta(build_model, config, classes)
    return _networks[shape]


def _dataset(params: dict, name: str) -> DatasetConfig:
    return build(DatasetConfig, entry(params, "datasets", name), f"datasets.{name}")


def brief(probe: Probe) -> Probe:
    """A probe in a few lines: one checksum for all exact facts of a kind, such as `views` or `parameter`."""
    kinds: dict[str, list] = {}
    for name, value in probe.exact.items():
        kind = "parameters" if name.startswith("parameter ") else name.partition(" of epoch")[0]
        kinds.setdefault(kind, []).append([name, value])
    sums = {kind: hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:SHORT] for kind, facts in kinds.items()}
    return Probe(sums, probe.close)


def committed(root: Path, section: str) -> dict[str, Probe]:
    """Of every entry of a section, as they are in git; none where none were written. root: the repository's."""
    path = root / COMMITTED / f"{section}.json"
    return {name: Probe(**facts) for name, facts in json.loads(path.read_text()).items()} if path.is_file() else {}


def commit(root: Path, section: str, probes: dict[str, Probe]) -> None:
    """Write them to where `committed` reads them, an entry a line."""
    lines = (f"{json.dumps(name)}: {json.dumps({'exact': p.exact, 'close': p.close})}" for name, p in probes.items())
    write_text(root / COMMITTED / f"{section}.json", "{\n" + ",\n".join(lines) + "\n}\n")
