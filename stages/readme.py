"""Put the generated tables and badges into the README, between markers; no number there is typed by hand.

Text between a marker on a line of its own and the next `<!-- end -->` is replaced:
`<!-- table:STUDY/NAME -->` by <reports>/tables/STUDY/NAME.md, `<!-- cost:STUDY -->` by what its training took and where
(<reports>/machines/STUDY.json), `<!-- reproduced -->` by how much of each paper was run, `<!-- summary -->` by that in
three sentences with what the rest would cost, `<!-- figures -->` by the figures that docs/words.yaml names,
`<!-- introduction -->` and `<!-- words -->` by the subject and the words
of docs/words.yaml, `<!-- badges -->` by badges, which are written to <reports>/badges/. With --check nothing is written
and the exit code is 1 when the README or a badge is out of date. docs/index.md has such markers too.

  python stages/readme.py --reports reports --coverage docs/coverage.yaml --published data/published \\
    --words docs/words.yaml --judgements docs/review.yaml --readme README.md
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from pathlib import Path

from longtail.base import params
from longtail.base.errors import UserError, nearest, run_main
from longtail.base.files import new_folder, write_text
from longtail.base.options import add_params
from longtail.base.text import note
from longtail.report import machines, results
from longtail.report.pages import browse
from longtail.report.review import badges, coverage, shares, words
from longtail.report.review.facts import Judgements, claims

START = re.compile(
    r"^<!-- (table:\S+|cost:\S+|reproduced|badges|summary|figures|introduction|words) -->$", re.MULTILINE
)
END = "<!-- end -->"


def fill(
    text: str, made: dict[str, str], tables: Path, where: str, studies: Collection[str], shown: Sequence[str] = ()
) -> str:
    """The README's text with each marked part replaced. made: what is no table; shown: the studies of the figures. What
    belongs to none of the studies of
    params.yaml, nor to one called nearly so, stays as it is, and is told. Raises UserError for a wrong marker."""
    parts, at = [], 0
    for marker in START.finditer(text):
        if marker.start() < at:
            continue
        stop = text.find(END, marker.end())
        following = START.search(text, marker.end())
        if stop < 0 or (following and following.start() < stop):
            raise UserError(f"{where}: marker '{marker[1]}' has no {END} after it")
        kind, _, name = marker[1].partition(":")
        of = shown if kind == "figures" else [name.partition("/")[0]] if name else []
        if absent := foreign(of, studies):
            note(f"{where}: '{marker[1]}' left as it is, as params has no study {absent[0]}")
            continue
        if kind == "table":
            content = table(name, tables, where)
        elif marker[1] in made:
            content = made[marker[1]]
        else:
            known = [key.partition(":")[2] for key in made if key.startswith("cost:")]
            raise UserError(f"{where}: no study '{name}'{nearest(name, known)}")
        parts += [text[at : marker.end()], f"\n{content.strip()}\n"]
        at = stop
    if not START.search(text):
        raise UserError(f"{where}: no marker like <!-- table:STUDY/NAME --> on a line of its own")
    return "".join([*parts, text[at:]])


def foreign(named: Sequence[str], studies: Collection[str]) -> list[str]:
    """Those that are no study of params.yaml and are not called nearly as one: others' params have other studies."""
    return [name for name in named if name not in studies and not get_close_matches(name, studies)]


def table(name: str, tables: Path, where: str) -> str:
    """The Markdown of STUDY/NAME."""
    path = tables / f"{name}.md"
    if not path.is_file():
        names = [p.relative_to(tables).with_suffix("").as_posix() for p in sorted(tables.glob("*/*.md"))]
        raise UserError(f"{where}: no table '{name}' in {tables}{nearest(name, names)}")
    return path.read_text(encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reports", type=Path, required=True, help="folder of all reports; badges are written there")
    parser.add_argument("--coverage", type=Path, required=True, help="map of the paper's items, docs/coverage.yaml")
    parser.add_argument("--published", type=Path, required=True, help="folder of printed numbers, data/published")
    parser.add_argument("--words", type=Path, required=True, help="words of the first screens, docs/words.yaml")
    parser.add_argument("--judgements", type=Path, required=True, help="assumptions of cost, docs/review.yaml")
    parser.add_argument("--readme", type=Path, required=True, help="file with the markers, rewritten in place")
    add_params(parser)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the file is out of date")
    args = parser.parse_args()
    if not args.readme.is_file():
        raise UserError(f"{args.readme}: no such file")
    everything = params.load(args.params)
    items, project = coverage.read(args.coverage, everything, note), coverage.Project(everything, args.reports)
    folder, old = args.reports / "badges", args.readme.read_text(encoding="utf-8")
    ran = {paper: shares.by_kind(items.of(paper), project) for paper in items.papers}
    found = badges.badges({p: s["tables"] + s["figures"] for p, s in ran.items()}, args.reports / "claims.csv")
    said, assumed = params.read(words.Words, args.words), params.read(Judgements, args.judgements).assumptions
    left = words.left(project, assumed)
    up = "" if args.readme.parent == Path() else f"{Path(os.path.relpath(Path(), args.readme.parent)).as_posix()}/"
    made = {
        "reproduced": shares.markdown(items, project, args.published, left.hours),
        "badges": badges.markdown(found, folder.as_posix()),
        "introduction": words.introduction(said, up),
        "words": words.glossary(said),
    }
    if "<!-- summary -->" in old:
        stand = words.stand(items, ran, claims(args.reports / "claims.csv") or [], left)
        made["summary"] = words.summary(said, stand, up)
    shown = [each.study for each in said.figures]
    if "<!-- figures -->" in old and not foreign(shown, project.studies):
        made["figures"] = browse.front(said.figures, project, args.readme.parent)
    for name, study in project.studies.items():
        run = results.load(args.reports / "metrics" / name, name, study)
        made[f"cost:{name}"] = machines.cost(study, run, machines.load(args.reports, name))
    new = fill(old, made, args.reports / "tables", str(args.readme), project.studies, shown)
    drawn = {f"{name}.svg": badges.svg(*texts) for name, texts in found.items()}
    there = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.svg")}
    stale = [str(args.readme)] * (new != old) + [str(folder)] * (there != drawn)
    if args.check and stale:
        print(f"{', '.join(stale)}: out of date; run python stages/readme.py without --check", file=sys.stderr)
        sys.exit(1)
    if there != drawn:
        with new_folder(folder) as temporary:
            for name, text in drawn.items():
                write_text(temporary / name, text)
    if new != old:
        write_text(args.readme, new)


if __name__ == "__main__":
    run_main(main)
