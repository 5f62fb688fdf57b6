"""Did an edit change what a run computes? The probe of entries of params.yaml, held against what is known of them.

    python stages/probe.py digits-deit_lt

For each ENTRY (default: all) the recipe is looked at on made images and held against the probe that git has
(tests/training/probes): views, orders, parameters, schedules and targets, without data or training, a fraction of a
second an entry. Prints what differs, and ends with 1 where anything does. A finished run is held against its own probe,
losses and updates too, by the stage that would train it: start that (`dvc repro`), it keeps what stands.
--write puts the probes of all entries into git's files, after an edit that was meant to change them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from longtail.base import params
from longtail.base.errors import UserError, nearest, run_main
from longtail.base.options import add_params
from longtail.runs.probe import listed
from longtail.training.entry_probe import PROBED, brief, commit, committed, entry_probe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("entries", metavar="ENTRY", nargs="*", help="names under teachers, caches or experiments")
    add_params(parser)
    parser.add_argument("--write", action="store_true", help="keep the probes of all entries as the committed ones")
    args = parser.parse_args()
    loaded = params.load(args.params)
    table = loaded | {section: loaded.get(section) or {} for section in PROBED}
    known = {name for section in PROBED for name in table[section]}
    for name in args.entries:
        if name not in known:
            raise UserError(f"{name}: no teacher, cache or experiment of that name{nearest(name, known)}")
    if args.write:
        for section in PROBED:
            commit(Path(), section, {name: brief(entry_probe(table, section, name)) for name in table[section]})
        return
    changed = False
    for section in PROBED:
        before = committed(Path(), section)
        for name in table[section]:
            if args.entries and name not in args.entries:
                continue
            if name not in before:
                print(f"{section}.{name}: new, no probe is committed (--write)")
                continue
            differences = before[name].differences(brief(entry_probe(table, section, name)))
            changed = changed or bool(differences)
            print(f"{section}.{name}: {listed(differences) or 'as committed'}")
    sys.exit(int(changed))


if __name__ == "__main__":
    run_main(main)
