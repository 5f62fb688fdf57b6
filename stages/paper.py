"""Bring a paper's folder up to date: the generated parts of its README, and its copy of dvc.yaml.

Between `<!-- claims -->`, `<!-- entries -->`, `<!-- ran -->` or `<!-- others -->` and the next `<!-- end -->` of
<folder>/README.md stands what is generated: the paper's claims with their verdicts (`--name` is its name in
docs/claims.yaml); its entries with hours, memory, the printed and our own accuracy, and the command that makes them;
what of its studies was run, where; who else ran it. A folder that is no paper's, but compares them, has
`<!-- overview -->` in the place of claims and others: accuracy beside what each network has cost. The folder's
dvc.yaml is a copy of the root's and no link: where DVC reads an old revision out of git, a link is no file.
With --check nothing is written and the exit code is 1 when something is out of date.

  python stages/paper.py papers/deit_lt --name DeiT-LT --reports reports --published data/published \\
    --review docs/review.yaml --coverage docs/coverage.yaml --claims docs/claims.yaml
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from longtail.base import params
from longtail.base.errors import UserError, run_main
from longtail.base.files import write_text
from longtail.report.review.coverage import Project, read
from longtail.report.review.facts import Judgements
from longtail.report.review.paper_page import claim_table, entry_tables, filled, overview, ran, who_else


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the paper's folder, from the root")
    parser.add_argument("--name", help="the paper's name in docs/claims.yaml; without it the folder has no README")
    parser.add_argument("--reports", type=Path, required=True, help="folder of all reports, with claims.csv")
    parser.add_argument("--published", type=Path, required=True, help="folder of printed numbers, data/published")
    parser.add_argument("--review", type=Path, required=True, help="assumptions of cost, docs/review.yaml")
    parser.add_argument("--coverage", type=Path, required=True, help="tables and figures, docs/coverage.yaml")
    parser.add_argument("--claims", type=Path, required=True, help="who else ran it, docs/claims.yaml")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is out of date")
    args = parser.parse_args()
    own = args.folder / "params.yaml"
    new = {args.folder / "dvc.yaml": Path("dvc.yaml").read_text(encoding="utf-8")}
    if args.name:
        readme, everything = args.folder / "README.md", params.load(None)
        if not readme.is_file():
            raise UserError(f"{readme}: no such file; write it, with the markers <!-- claims --> and <!-- entries -->")
        assumed = params.read(Judgements, args.review).assumptions
        project = Project(everything, args.reports)
        text, ours, folder = readme.read_text(encoding="utf-8"), params.own(own), args.folder.as_posix()
        made = {"entries": entry_tables(folder, ours, everything, project, args.published, assumed)}
        made["ran"] = ran(ours, read(args.coverage, everything).of(args.name), project)
        if "<!-- overview -->" in text:
            made["overview"] = overview(ours, everything, project, args.published)
        else:
            made["claims"] = claim_table(args.name, args.reports / "claims.csv")
            made["others"] = who_else(args.name, args.claims, args.reports, args.published)
        new[readme] = filled(text, made, str(readme))
    stale = [path for path, text in new.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if args.check and stale:
        print(f"{', '.join(map(str, stale))}: out of date; run `make papers`", file=sys.stderr)
        sys.exit(1)
    for path in stale:
        write_text(path, new[path])


if __name__ == "__main__":
    run_main(main)
