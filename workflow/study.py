"""A study by its name: `python -m workflow.study repro digits` is `make repro` without the pages, `... status digits`
is `make status`. One process: DVC alone takes a second to load.

dvc.lock is looked at before and after (workflow/lockfile.py). Of the pipeline DVC reads the dvc.yaml of those folders
in which something stands that the study needs: 140 stages for one of the root's own, not all 1,900. That no two folders
make the same file, which it then does not see, is held by tests/pipeline/test_dag.py.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from longtail.base.errors import run_main
from workflow import lockfile
from workflow.address import CODE, needed, pipelines

ENDS = ("report", "scores")  # the stages that a study ends with


def repro(targets: list[str], files: list[str]) -> int:
    """Make what is out of date. The exit code of DVC."""
    from workflow import quick_dvc

    code = quick_dvc.run("repro", *targets, files=files)
    lockfile.keep()
    return code


def status(targets: list[str], files: list[str]) -> int:
    """Say what is out of date, of edited code too, which bare DVC shows as the stage `code` alone. The exit code."""
    from workflow import quick_dvc

    code = quick_dvc.run("repro", "--quiet", f"{CODE}:code", files=[CODE])
    return code or quick_dvc.run("status", "--with-deps", *targets, files=files)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("repro", "status"))
    parser.add_argument("study", help="of any folder, by its name alone")
    args = parser.parse_args()
    lockfile.keep()
    targets, files = needed([f"{end}@{args.study}" for end in ENDS], pipelines(Path()))
    sys.exit((repro if args.command == "repro" else status)(targets, files))


if __name__ == "__main__":
    run_main(main)
