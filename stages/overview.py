"""What is compared over studies: tail accuracy of one dataset by imbalance factor, as figure and table (Fig. 1c).

Reads the metrics files of the three studies that the entry names (section `overviews`). What was not run is a gap in
the figure and "not run" in the table; the points read off the paper's figure are drawn thin and dashed.

  python stages/overview.py cifar10_imbalance --metrics reports/metrics --published data/published \\
      --out reports/overviews/cifar10_imbalance
"""

from __future__ import annotations

import argparse
from pathlib import Path

from longtail.base import params
from longtail.base.errors import run_main
from longtail.base.files import new_folder, write_text
from longtail.base.options import add_params
from longtail.report.figures.files import save
from longtail.report.tables.overview import OverviewConfig, printed, table, tail_accuracy, tails
from longtail.report.tables.render import to_html, to_latex, to_markdown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("entry", metavar="OVERVIEW", help="name under `overviews` in params.yaml")
    parser.add_argument("--metrics", type=Path, required=True, help="folder of all studies' metrics, reports/metrics")
    parser.add_argument("--published", type=Path, required=True, help="folder of printed numbers, data/published")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; replaced as a whole")
    add_params(parser)
    args = parser.parse_args()
    entry = params.entry(params.load(args.params), "overviews", args.entry)
    config = params.build(OverviewConfig, entry, f"overviews.{args.entry}")
    values, curves = tails(config, args.metrics), printed(config, args.published)
    drawn, grid = tail_accuracy(config, values, curves), table(config, values, curves)
    with new_folder(args.out) as folder:
        latex = to_latex(grid, f"{args.entry}-tail_accuracy")
        for suffix, text in {"md": to_markdown(grid), "tex": latex, "html": to_html(grid)}.items():
            write_text(folder / f"tail_accuracy.{suffix}", text)
        if drawn:
            save(drawn, "tail_accuracy", f"{config.title}: tail accuracy", folder, folder)
    ran = sum(value is not None for phases in values.values() for value in phases["last"])
    print(f"{args.entry}: {ran} of {3 * len(config.series)} entries were run")


if __name__ == "__main__":
    run_main(main)
