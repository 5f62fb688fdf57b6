"""Is anything lost or wrong where an engine is killed, a file damaged, a disk full? A campaign on a study in miniature.

    python benchmarks/kills.py --kills 100 --seed 0

Each run makes the study of tests/helpers/tiny.yaml from nothing, with DVC or with Snakemake, and is disturbed several
times: killed at a random moment (all processes, or one of them), asked to stop (SIGTERM, Ctrl-C), ended before a random
file operation of a random stage, told that the disk is full there, left with a file cut short or with a byte flipped.
After each the same command is started again. In the end every file must be that of an undisturbed run. What is counted
for a disturbance is what became of its run:
  identical  all files are those of an undisturbed run
  lost       a finished and undamaged result that was trained once more
  by hand    runs whose command did not end well within as many starts as --starts says
Two starts: of a damaged input the first says so and sets it aside, the next makes it again. 90 minutes for 100 kills on
two idle cores.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import recording
import torch
from kills_engine import ENGINES, MADE, kill_all, made, note, results, start

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # tests.helpers

from longtail.base.errors import UserError, run_main  # noqa: E402
from longtail.base.text import pipe_table  # noqa: E402
from tests.helpers.crash_points import BEFORE, HOW, STAGE  # noqa: E402
from tests.helpers.projects import tiny_project  # noqa: E402

KINDS = {  # what is done, and how often among ten
    "SIGKILL to all": 2,
    "SIGKILL to one process": 1,
    "SIGTERM or Ctrl-C": 1,
    "killed before an operation": 2,
    "disk full": 1,
    "file cut short": 1,
    "byte flipped": 2,
}
OPERATION, DAMAGE = ("killed before an operation", "disk full"), ("file cut short", "byte flipped")
STATE = ("scratch", ".snakemake/dvc/records")
A_START_S = 600.0  # a command that takes longer hangs


@dataclass
class Disturbance:
    """One kill of one run."""

    engine: str
    kind: str
    what: str
    run: int
    identical: bool = False
    lost: int = 0


@dataclass
class Campaign:
    """Runs in copies of one project, each compared with the same project made undisturbed."""

    work: Path
    random: random.Random
    starts: int
    seconds: float = 60.0  # of an undisturbed run: moments are drawn from it
    done: list[Disturbance] = field(default_factory=list)
    by_hand: list[str] = field(default_factory=list)

    def prepare(self) -> None:
        """The project, made once by each engine: they must agree before anything is disturbed."""
        tiny_project(self.work / "source")
        self.reference: dict[str, str] = {}
        self.operations: dict[str, int] = {}
        for engine in ENGINES:
            folder = shutil.copytree(self.work / "source", self.work / f"undisturbed-{engine}", symlinks=True)
            began = time.monotonic()
            counted = self.work / "operations"
            code, said = self.call(folder, engine, **self.hooked(folder, f"count:{counted}"))
            self.seconds = time.monotonic() - began
            print(f"{engine}, undisturbed: {self.seconds:.0f} s", flush=True)
            if code or (self.reference and self.reference != made(folder)):
                raise UserError(f"{engine}: not even the undisturbed run ends well or alike: {said[-1500:]}")
            self.reference = made(folder)
            for script, count in (line.split() for line in counted.read_text().splitlines()):
                self.operations[script] = max(int(count), self.operations.get(script, 0))

    def hooked(self, folder: Path, how: str, stage: str = "", before: int = 0) -> dict[str, str]:
        """Variables by which crash_points.py acts in the processes that an engine starts."""
        return {STAGE: stage, BEFORE: str(before), HOW: how, "PYTHONPATH": f"{folder}{os.pathsep}{self.hook()}"}

    def call(self, folder: Path, engine: str, **more: str) -> tuple[int, str]:
        """Run an engine to its end: its code and what it said."""
        log = folder.with_suffix(".log")
        with open(log, "ab") as file:
            at = file.tell()
            process = start(folder, engine, file, **more)
            try:
                code = process.wait(A_START_S)
            except subprocess.TimeoutExpired:
                kill_all(process)
                code = -9
        return code, log.read_bytes()[at:].decode(errors="replace")

    def run(self, engine: str, number: int, kinds: list[str]) -> None:
        """One study from nothing, disturbed as told; what became of it goes into `done`."""
        folder = shutil.copytree(self.work / "source", self.work / f"run{number}-{engine}", symlinks=True)
        mine = [Disturbance(engine, kind, "", number) for kind in kinds]
        finished: dict[str, int | None] = {}
        for disturbance in mine:
            disturbance.what = self.disturb(folder, engine, disturbance.kind, finished)
            print(f"run {number} {engine}: {disturbance.kind}: {disturbance.what}", flush=True)
            disturbance.lost = self.lost(folder, finished)
        code, attempt = None, 0
        while code != 0 and attempt < self.starts:
            attempt += 1
            code, said = self.call(folder, engine)
        if code:
            line = next((text for text in reversed(said.splitlines()) if "rror" in text), said[-200:])
            self.by_hand.append(f"run {number}, {engine}: {line}")
        mine[-1].lost += self.lost(folder, finished)
        differs = sorted(set(self.reference.items()) ^ set(made(folder).items()))
        for disturbance in mine:
            disturbance.identical = code == 0 and not differs
        told = "identical" if mine[-1].identical else f"NOT: code {code}, {[name for name, _ in differs][:6]}"
        print(f"run {number} {engine}: ended at start {attempt}: {told}", flush=True)
        self.done += mine
        if mine[-1].identical:
            shutil.rmtree(folder)

    def disturb(self, folder: Path, engine: str, kind: str, finished: dict[str, int | None]) -> str:
        """Start the engine, disturb it or what it leaves, and end it. Returns what was done."""
        if kind in OPERATION:
            stage = self.random.choice(sorted(self.operations))
            before = self.random.randint(1, self.operations[stage])
            how, once = "full" if kind == "disk full" else "kill", folder.with_suffix(f".{time.monotonic_ns()}")
            code, _ = self.call(folder, engine, **self.hooked(folder, f"{how}:{once}", stage, before))
            note(folder, finished)
            return f"{stage}, operation {before}, {'came' if once.exists() else 'did not come'}, code {code}"
        with open(folder.with_suffix(".log"), "ab") as log:
            process = start(folder, engine, log)
            wait = self.random.uniform(2, max(4.0, 0.25 * self.seconds))
            end = time.monotonic() + wait
            while time.monotonic() < end and process.poll() is None:
                time.sleep(0.05)
            if kind == "SIGKILL to one process":
                below = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
                name = f"after {wait:.1f} s"
                if below:
                    chosen = self.random.choice(below)
                    script, *more = chosen.cmdline()[1:3] if chosen.is_running() else [""]
                    name += f", {' '.join([Path(script).name, *more])[:50]}" if script else ""
                    chosen.kill()
                process.wait(A_START_S)
                note(folder, finished)
                return name
            if kind == "SIGTERM or Ctrl-C":
                signum = self.random.choice((signal.SIGTERM, signal.SIGINT))
                if process.poll() is None:
                    os.killpg(process.pid, signum)  # as a terminal, or a cluster, sends it
                try:
                    code = process.wait(120)
                except subprocess.TimeoutExpired:
                    code = "none within 120 s"
                kill_all(process)
                note(folder, finished)
                return f"{signum.name} after {wait:.1f} s, code {code}"
            kill_all(process)
        note(folder, finished)
        if kind == "SIGKILL to all":
            return f"after {wait:.1f} s"
        return self.damage(folder, kind, finished)

    def damage(self, folder: Path, kind: str, finished: dict[str, int | None]) -> str:
        """Cut a file short, or flip one of its bits; the file is drawn among results, state and dvc.lock."""
        files = [p for where in (*MADE, *STATE) for p in sorted((folder / where).rglob("*")) if p.is_file()]
        files = [p for p in files if not p.is_symlink() and p.stat().st_size and ".environment" not in p.parent.name]
        files = [p for p in files if p.name != ".gitignore"]
        results = [p for p in files if p.suffix in (".safetensors", ".npy", ".npz", ".pt", ".json")]
        files = results if results and self.random.random() < 0.7 else files
        if (folder / "dvc.lock").is_file() and self.random.random() < 0.25:
            files = [folder / "dvc.lock"]
        if not files:
            return "no file yet"
        path = self.random.choice(files)
        if path.name == "dvc.lock":
            kind = "file cut short"  # of flipped bytes DVC's own sums are the guard
        data = bytearray(path.read_bytes())
        at = self.random.randrange(len(data))
        if kind == "file cut short":
            data = data[:at]
        else:
            data[at] ^= 1 << self.random.randrange(8)
        mode = path.stat().st_mode
        path.chmod(mode | 0o200)
        with open(path, "r+b") as file:  # the very file, which DVC's cache may hold as well
            file.write(data)
            file.truncate(len(data))
        path.chmod(mode)
        for name in [name for name in finished if path.is_relative_to(folder / name)]:
            finished[name] = None  # whatever becomes of it: it is to be made again
        return f"{path.relative_to(folder)} at {at}"

    def lost(self, folder: Path, finished: dict[str, int | None]) -> int:
        """Finished results that are not those that were there."""
        now = results(folder)
        return sum(was is not None and now.get(name, was) != was for name, was in finished.items())

    def hook(self) -> Path:
        """A folder whose sitecustomize.py every Python process runs first."""
        path = self.work / "hook"
        path.mkdir(exist_ok=True)
        code = "from tests.helpers.crash_points import from_environment\nfrom_environment()\n"
        (path / "sitecustomize.py").write_text(f"import sys\nsys.path.append({str(ROOT)!r})\n{code}sys.path.pop()\n")
        return path


def drawn(kills: int, seed: random.Random, most: int) -> Iterator[list[str]]:
    """The kinds of each run's disturbances, shuffled in tens so that each comes as often as KINDS says."""
    deck: list[str] = []
    while len(deck) < kills:
        ten = [kind for kind, often in KINDS.items() for _ in range(often)]
        seed.shuffle(ten)
        deck += ten
    deck = deck[:kills]
    # operations after kills at a moment, for of a finished study no stage runs; damage before or after them
    place = dict.fromkeys(OPERATION, 1.0)
    for first in range(0, kills, most):
        run = deck[first : first + most]
        yield sorted(run, key=lambda kind: place.get(kind, 2.0 * (kind in DAMAGE) * seed.random()))


def table(campaign: Campaign, where: dict, seconds: float) -> str:
    """Markdown: a row an engine and a kind."""
    rows = []
    for engine in ENGINES:
        for kind in KINDS:
            of = [d for d in campaign.done if (d.engine, d.kind) == (engine, kind)]
            if of:
                rows.append([engine, kind, len(of), sum(d.identical for d in of), sum(d.lost for d in of)])
    of = campaign.done
    rows.append(["both", "all", len(of), sum(d.identical for d in of), sum(d.lost for d in of)])
    head = f"# Kills and damage\n\n{len(of)} disturbances, {len(campaign.by_hand)} runs to be mended by hand, "
    head += f"{seconds / 60:.0f} minutes on {where['cores']} cores ({where['processor']}, load {where['load']}).\n\n"
    columns = ("engine", "what was done", "times", "identical", "results lost")
    tail = "".join(f"\n* {line}" for line in campaign.by_hand)
    return head + "\n".join(pipe_table(columns, "llrrr", rows)) + f"\n{tail}" + ("\n" if tail else "")


def main() -> None:
    parser = recording.parser(__doc__, "cpu")
    parser.add_argument("--kills", type=int, default=100, help="disturbances in all; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of what is done and when; default: %(default)s")
    parser.add_argument("--most", type=int, default=6, help="disturbances of one run; default: %(default)s")
    parser.add_argument("--starts", type=int, default=3, help="of the last command; default: %(default)s")
    parser.add_argument("--work", type=Path, help="folder to work in, kept; default: a temporary one")
    args = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        work = args.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        campaign = Campaign(work.absolute(), random.Random(args.seed), args.starts)
        campaign.prepare()
        for number, kinds in enumerate(drawn(args.kills, campaign.random, args.most)):
            campaign.run(list(ENGINES)[number % len(ENGINES)], number, kinds)
            where = recording.machine(torch.device("cpu"))
            record = {"environment": where, "seed": args.seed, "by_hand": campaign.by_hand}
            record["seconds"] = round(time.monotonic() - began)
            record["kills"] = [vars(disturbance) for disturbance in campaign.done]
            recording.write(args.out, "kills", record, table(campaign, where, record["seconds"]))
    good = sum(d.identical for d in campaign.done)
    lost = sum(d.lost for d in campaign.done)
    print(f"{good} of {len(campaign.done)} identical, {lost} lost, {len(campaign.by_hand)} by hand")
    sys.exit(good < len(campaign.done) or lost > 0 or bool(campaign.by_hand))


if __name__ == "__main__":
    run_main(main)
