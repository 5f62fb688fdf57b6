"""What each script and each method is made of: data/code/<script> and data/code/methods/<method>.

    python stages/code_digests.py --out data/code

A list has a line `sha256 path` for every file of longtail that the script imports, directly or through others, as
Python reads it: comments, docstrings and lay-out do not count (longtail/base/source.py). Stages depend on these lists,
so an edit makes stale what it can change, and no more. Seconds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from longtail.base import source
from longtail.base.errors import run_main
from longtail.base.files import new_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write; replaced as a whole")
    args = parser.parse_args()
    with new_folder(args.out) as folder:
        (folder / "methods").mkdir()
        for name, script in source.scripts().items():
            (folder / name).write_text(source.made_of(script))


if __name__ == "__main__":
    run_main(main)
