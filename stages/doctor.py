"""Check a dataset on disk before hours are spent on it: lists, counts, every image; and name what is wrong.

    python stages/doctor.py imagenet_lt --hash

For entries of sources list, inat and csv: reads the lists named in datasets.<ENTRY> of params.yaml, compares them with
the counts given there, looks for duplicates and for test images in the training list, and decodes every image. Where
images are missing it names the likely cause: flat val/, archives not unpacked, another edition, another root, names in
another Unicode form, paths of Windows, pointers of Git LFS; and of a file that is no image what it really is.
Other sources are read as stages/subsample.py reads them, whose first finding is told. Writes nothing.
What plays no part is told in notes. Ends with a table and code 0, or with one line a finding and code 2. Reads
everything once: minutes to hours by disk.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from longtail.base import params
from longtail.base.errors import UserError, run_main
from longtail.base.options import add_params
from longtail.base.text import note
from longtail.base.workers import cores
from longtail.data.config import DatasetConfig, FilesConfig
from longtail.data.doctor import SplitReport, check_images, read_lists
from longtail.data.sources import make_longtail, summary


def expectations(everything: dict, name: str) -> dict[str, FilesConfig]:
    """The blocks `files` of all other entries, by name; those that cannot be built are not this entry's matter."""
    found = {}
    for other, block in (everything.get("datasets") or {}).items():
        if other != name and isinstance(block, dict) and block.get("files"):
            try:
                found[other] = params.build(DatasetConfig, block, f"datasets.{other}").files
            except UserError:
                continue
    return found


def table(reports: list[SplitReport]) -> str:
    """One row a split."""
    lines = [f"{'split':<6} {'images':>8} {'classes':>8} {'missing':>8} {'unreadable':>10}  sha256 of all bytes"]
    for r in reports:
        content = r.content or "not computed (--hash)"
        lines.append(f"{r.split:<6} {r.images:>8} {r.classes:>8} {r.missing:>8} {r.unreadable:>10}  {content}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("entry", help="name under `datasets` in params.yaml")
    parser.add_argument("--hash", action="store_true", help="also a checksum of all images, to compare machines by")
    parser.add_argument("--jobs", type=int, default=0, help="worker processes (default: one per core)")
    add_params(parser)
    args = parser.parse_args()
    everything, where = params.load(args.params), f"datasets.{args.entry}"
    config = params.build(DatasetConfig, params.entry(everything, "datasets", args.entry), where)
    if config.files is None:
        print(summary(make_longtail(args.entry, dataclasses.replace(config, download=False), note)))
        return
    listings, findings, notes = read_lists(config, expectations(everything, args.entry))
    reports, root = [], Path(config.files.images)

    def told(split: str, total: int):
        return lambda done: print(f"\r{split}: {done} of {total}", end="", file=sys.stderr, flush=True)

    for split, listing in listings.items():
        progress = told(split, len(listing.files)) if sys.stderr.isatty() else lambda done: None
        report, found = check_images(root, split, listing, args.hash, args.jobs or cores(), progress)
        if sys.stderr.isatty():
            print(file=sys.stderr)
        reports.append(report)
        findings += found
    print(table(reports))
    for line in notes:
        note(line)
    for finding in findings:
        print(f"error: {' '.join(finding.split())}", file=sys.stderr)
    if findings:
        sys.exit(2)


if __name__ == "__main__":
    run_main(main)
