"""Options that most stages have, given to their argparse parser."""

from __future__ import annotations

from pathlib import Path


def add_params(parser) -> None:
    """--params, a Path or None, for longtail.base.params.load."""
    parser.add_argument("--params", type=Path, help="one params file (default: that of the root and all papers')")


def add_device(parser, default: str = "auto") -> None:
    """--device, for longtail.runs.seeds.pick_device. default: auto is CUDA where there is one."""
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default=default, help="auto: CUDA if present; default: %(default)s"
    )
