"""Write a trained run's weights under the names that other code expects.

    python stages/export_checkpoint.py data/students/digits-deit_lt/seed0 --out exports/digits/model.safetensors
    python stages/export_checkpoint.py data/teachers/ldam_drw_sam-digits_if20/seed0 --out exports/teacher.pth

--format timm (default of students): timm's names, and beside FILE a config.json with architecture, input size and
normalisation. timm.create_model("deit_base_distilled_patch16_224", num_classes=10, checkpoint_path=FILE) takes a
standard size; where FILE is called model.safetensors, timm.create_model("local-dir:FOLDER", pretrained=True) any.
--format official (default of teachers, which have no other): names of Saddle-LongTail and LDAM-DRW, or of DeiT-LT.
FILE ending in .safetensors holds the tensors, with dataset and class order in its header; .pth, .pt or .tar is the
official scripts' container (`state_dict` with `module.`, or `model`). Students: last epoch; teachers: the epoch of
their `select`. stages/import_checkpoint.py reads either back, bit for bit. A second.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from longtail.base.errors import UserError, run_main
from longtail.base.files import atomic_write, write_json
from longtail.exchange.exported import Run, read_run, timm_config
from longtail.exchange.official import in_container, to_official

PICKLES = (".pth", ".pt", ".tar")


def export(run: Run, where: Path, form: str, out: Path) -> list[Path]:
    """Write the file, and timm's config.json beside it. Returns what was written."""
    paths = [out, *([out.with_name("config.json")] if form == "timm" else [])]
    for path in paths:
        if path.exists():
            raise UserError(f"{path}: is there already; give --out another name")
    config = timm_config(run, str(where)) if form == "timm" else None
    state = run.state if form == "timm" else to_official(run.kind, run.state)
    if out.suffix in PICKLES:
        atomic_write(out, lambda path: torch.save(in_container(run.kind, state), path))
    else:
        header = {"format": "pt", "longtail": json.dumps(run.about)}
        atomic_write(out, lambda path: save_file(state, path, header))
    if config is not None:
        write_json(paths[1], config)
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", type=Path, help="result folder of one seed, e.g. data/students/X/seed0")
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help=".safetensors, .pth, .pt or .tar")
    parser.add_argument("--format", choices=("timm", "official"), help="default: timm for students, else official")
    args = parser.parse_args()
    if args.out.suffix not in (".safetensors", *PICKLES):
        raise UserError(f"--out {args.out}: expected a name ending in .safetensors, {', '.join(PICKLES)}")
    run = read_run(args.run)
    form = args.format or ("timm" if run.kind == "student" else "official")
    if form == "timm" and run.kind == "teacher":
        raise UserError(f"{args.run}: a CIFAR teacher has no architecture in timm; use --format official")
    if form == "timm" and args.out.suffix in PICKLES:
        raise UserError(f"--out {args.out}: --format timm is written as .safetensors")
    print(" ".join(map(str, export(run, args.run, form, args.out))))


if __name__ == "__main__":
    run_main(main)
