"""A dataset entry as Croissant 1.0 (mlcommons.org/croissant): whose images, on what terms, how many of each class.

The facts are the entry's in the params file, the source's in docs/data_sources.yaml, size and md5 of the dataset file
in dvc.lock, and the class counts that a committed run records. What none of these tells is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longtail.base import params, yaml_file
from longtail.base.errors import UserError
from longtail.cost.workload import Workload
from longtail.report import reading

CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{name: f"cr:{name}" for name in ("citeAs", "column", "dataType", "examples", "extract", "field", "fileProperty")},
    **{name: f"cr:{name}" for name in ("fileObject", "fileSet", "format", "includes", "isLiveDataset", "jsonPath")},
    **{name: f"cr:{name}" for name in ("key", "md5", "parentField", "path", "recordSet", "references", "regex")},
    **{name: f"cr:{name}" for name in ("repeated", "replace", "separator", "source", "subField", "transform")},
    **{name: f"cr:{name}" for name in ("equivalentProperty", "samplingRate")},
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
}
COLUMNS = {  # of the record set `classes`
    "index": ("sc:Integer", "number of the class, as models and files here have it"),
    "name": ("sc:Text", "its name in the source"),
    "train": ("sc:Integer", "training images"),
    "test": ("sc:Integer", "test images"),
    "group": ("sc:Text", "by the authors' cuts: head, mid or tail"),
}


@dataclass(frozen=True)
class ImageSource:
    """An entry of docs/data_sources.yaml."""

    title: str
    raw: tuple[str, ...]
    creators: tuple[str, ...]
    published: str  # year
    url: str
    licence: str
    cite: str
    about: str
    known: str  # what to know before it is used


def sources(path: Path) -> dict[str, ImageSource]:
    """{folder of raw data: its source}. Raises UserError for a file of another form."""
    blocks = yaml_file.mapping(path, "the sources of images, docs/data_sources.yaml")
    found = {name: params.build(ImageSource, block, f"{path}: {name}") for name, block in blocks.items()}
    return {raw: source for source in found.values() for raw in source.raw}


def locked(root: Path) -> dict[str, dict[str, Any]]:
    """{path: {size, md5}} of what DVC has recorded as made, over all folders."""
    outs = {}
    for path in (root / "dvc.lock", *sorted(root.glob("papers/*/dvc.lock"))):
        if path.is_file():
            stages = yaml_file.read(path)["stages"].values()
            outs |= {out["path"]: out for stage in stages for out in stage.get("outs", ())}
    return outs


def counted(table: dict, reports: Path) -> dict[str, dict[str, Any]]:
    """{dataset: the record of a run on it}, whose class names, counts and groups are the dataset's."""
    found: dict[str, dict[str, Any]] = {}
    for section, below in (("experiments", ""), ("teachers", "teachers/")):
        for entry, block in (table.get(section) or {}).items():
            if block["dataset"] not in found:
                record = reading.diagnostics(reports / "runs" / block["study"] / f"{below}{entry}")
                if record is not None and record["dataset"] == block["dataset"]:
                    found[block["dataset"]] = record
    return found


def card(name: str, table: dict, source: ImageSource, made: dict[str, dict], record: dict | None) -> dict:
    """The JSON-LD of an entry. made: of `locked`; record: of `counted`, None where no run on it is committed."""
    entry = params.entry(table, "datasets", name)
    description = " ".join([source.about, _cut(name, entry, table), source.known])
    found = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "alternateName": source.title,
        "description": description,
        "creator": [{"@type": "Person", "name": person} for person in source.creators],
        "datePublished": source.published,
        "license": source.licence,
        "url": source.url,
        "citeAs": source.cite,
        "version": "1.0.0",
    }
    path = f"data/datasets/{name}.npz"
    if out := made.get(path):
        found["distribution"] = [
            {
                "@type": "cr:FileObject",
                "@id": "dataset",
                "name": "dataset",
                "description": f"Made by stages/subsample.py; `dvc repro subsample@{name}` makes it again.",
                "contentUrl": path,
                "contentSize": f"{out['size']} B",
                "encodingFormat": "application/zip",
                "md5": out["md5"],
            }
        ]
    if record is not None:
        found["recordSet"] = [_classes(record)]
    return found


def _cut(name: str, entry: dict, table: dict) -> str:
    """How the entry is cut from its source, in words; numbers where the entry or its lists tell them."""
    try:
        images = Workload(table).images(name)
        told = f"{images.train:,} training images in {images.classes:,} classes, {images.test:,} test images."
    except UserError:
        told = "How many images there are is not known before they are there."
    if entry["imbalance_factor"] is None:
        return f"Long-tailed as its lists name it. {told}"
    factor, seed = f"{entry['imbalance_factor']:g}", entry["subset_seed"]
    if factor == "1":
        return f"Balanced: every class has as many images. {told}"
    return f"Cut to a long tail, the largest class {factor} times the smallest, with subset seed {seed}. {told}"


def _classes(record: dict) -> dict[str, Any]:
    """The record set of classes, its rows in it."""
    group = {label: name for name, members in record["groups"]["author"].items() for label in members}
    rows = [
        {"classes/index": label, "classes/name": text, "classes/train": train, "classes/test": test}
        | {"classes/group": group[label]}
        for label, (text, train, test) in enumerate(
            zip(record["class_names"], record["class_counts"], record["test_counts"], strict=True)
        )
    ]
    fields = [
        {"@type": "cr:Field", "@id": f"classes/{column}", "name": column, "dataType": kind, "description": text}
        for column, (kind, text) in COLUMNS.items()
    ]
    about = {"@type": "cr:RecordSet", "@id": "classes", "name": "classes", "key": {"@id": "classes/index"}}
    return about | {"description": "A row a class.", "field": fields, "data": rows}
