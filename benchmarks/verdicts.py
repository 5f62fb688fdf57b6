"""How often the ledger's intervals cover the truth, and how often its rules would find a difference that is not there.

    python benchmarks/verdicts.py --page docs/verdicts.md    # five minutes: results/verdicts.{json,md}, and the page
    python benchmarks/verdicts.py --trials 20 --out /tmp/v

Two methods are trained with several seeds each and tested on the same images, in a model whose truth is known: an image
has a difficulty for both methods and one for each, a training seed moves all images, and each run errs by itself. The
answers go through the very functions that judge claims. Accuracies and spreads over seeds are those that Table S.3
of DeiT-LT prints (its standard errors times the root of 3), or those of the studies in reports/.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import recording
from scipy import integrate, stats

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from longtail.base.files import write_text  # noqa: E402
from longtail.base.text import pipe_table  # noqa: E402
from longtail.evaluation import statistics  # noqa: E402
from longtail.report.claims.rules import BOTH, LEAST_SEEDS, verdict  # noqa: E402
from longtail.report.published import read  # noqa: E402

DIFFICULTY, OWN, LUCK = 0.5, 0.15, 0.35  # shares of an answer's variance: image, image and method, run
STRATA = 10  # classes of equal size that images are drawn in; in this model they are alike, so that more change nothing
TEST = {"CIFAR-10-LT": 10_000, "CIFAR-100-LT": 10_000}  # test images
TAIL = {"CIFAR-10-LT": 3_000, "CIFAR-100-LT": 2_900}  # of the printed tail: 3 of 10 classes, 29 of 100 (data/published)
RULES = ("images alone, 1 seed", "images alone, 3 seeds", "seeds alone, 3 seeds", "both, 3 seeds", "both, 6 seeds")
UNPRINTED = (("imagenet_lt", 50_000, 59.1), ("inat18", 24_426, 75.1))  # no standard error is printed


@dataclass(frozen=True)
class Side:
    """Accuracy of a method and the standard deviation of one run's over training seeds, both in %."""

    accuracy: float
    spread: float


@lru_cache
def quantile(side: Side, images: int) -> tuple[float, float]:
    """(mean, standard deviation over seeds) of an answer's latent value, so that accuracy and spread come out.

    What two runs of one method differ by on finite images is part of the spread; the rest moves all images.
    """
    mu = float(stats.norm.ppf(side.accuracy / 100))
    shared = DIFFICULTY + OWN
    again = integrate.quad(
        lambda u: stats.norm.pdf(u) * stats.norm.cdf((mu + math.sqrt(shared) * u) / math.sqrt(LUCK)) ** 2, -8, 8
    )[0]
    churn = (side.accuracy / 100 - again) / images
    common = math.sqrt(max(0.0, (side.spread / 100) ** 2 - churn)) / float(stats.norm.pdf(mu))
    return mu * math.sqrt(1 + common**2), common


def answers(rng: np.random.Generator, sides: tuple[Side, Side], images: int, seeds: int) -> np.ndarray:
    """right(a) - right(b) of one trial, [seeds, images]; over all trials its mean is the difference of accuracies."""
    difficulty = math.sqrt(DIFFICULTY) * rng.standard_normal(images, np.float32)
    right = []
    for side in sides:
        mu, common = quantile(side, images)
        own = difficulty + math.sqrt(OWN) * rng.standard_normal(images, np.float32)
        luck = math.sqrt(LUCK) * rng.standard_normal((seeds, images), np.float32)
        right.append(mu + own + common * rng.standard_normal((seeds, 1)) + luck > 0)
    return right[0].astype(np.float64) - right[1]


def intervals(d: np.ndarray, labels: np.ndarray, rules: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    """By each rule, from the first of the seeds."""
    weights = np.full(int(labels.max()) + 1, 1 / (int(labels.max()) + 1))
    found = {}
    for rule in rules:
        source, _, number = rule.partition(", ")
        own = d[: int(number.split()[0])]
        if source == "images alone":
            found[rule] = statistics.over_images(own, labels, weights, replicates=1000).interval
        elif source == "seeds alone":
            found[rule] = statistics.over_seeds(own.mean(axis=1)).interval
        else:
            found[rule] = statistics.over_seeds_and_images(own, labels, weights).interval
    return found


def simulate(
    sides: tuple[Side, Side], images: int, trials: int, rules: tuple[str, ...], seed: int = 0
) -> dict[str, dict[str, float]]:
    """{rule: {covered, verdicts}}: shares of the trials whose interval holds the true difference, and leaves 0 out.

    Images are taken as a whole number of each of STRATA classes.
    """
    rng, truth = np.random.default_rng(seed), (sides[0].accuracy - sides[1].accuracy) / 100
    labels = np.arange(images // STRATA * STRATA) % STRATA
    counts = {rule: {"covered": 0, "verdicts": 0} for rule in rules}
    seeds = max(int(rule.partition(", ")[2].split()[0]) for rule in rules)
    for _ in range(trials):
        d = answers(rng, sides, len(labels), seeds)
        for rule, interval in intervals(d, labels, rules).items():
            counts[rule]["covered"] += interval[0] <= truth <= interval[1]
            counts[rule]["verdicts"] += verdict(LEAST_SEEDS, interval, BOTH) != "undecided"
    return {rule: {key: n / trials for key, n in found.items()} for rule, found in counts.items()}


def printed() -> dict[tuple[str, int, str, str], Side]:
    """{(data set, imbalance, head, split): Side} of Table S.3."""
    return {
        (r["dataset"], int(r["imbalance"]), r["method"].partition("expert=")[2], r["split"]): Side(
            float(r["value"]), float(r["stderr"]) * math.sqrt(3)
        )
        for r in read(ROOT / "data/published", "deit_lt_table_s3.csv")
    }


def coverage(trials: int) -> list[dict]:
    """The average of both heads against either of them, by Table S.3, over all classes and over the tail."""
    table, rows = printed(), []
    for (dataset, imbalance, head, split), side in table.items():
        if head == "Average" or split not in ("all", "tail"):
            continue
        images = (TEST if split == "all" else TAIL)[dataset]
        sides = (table[dataset, imbalance, "Average", split], side)
        found = simulate(sides, images, trials, RULES[1:4], seed=len(rows))
        about = {"dataset": dataset, "imbalance": imbalance, "split": split, "against": head, "images": images}
        rows.append(about | {rule: each["covered"] for rule, each in found.items()})
    return rows


@dataclass(frozen=True)
class Size:
    """What the chance of a false verdict depends on."""

    study: str
    images: int
    side: Side
    source: str


def sizes(reports: Path) -> list[Size]:
    """Of the studies that Table S.3 prints, of two larger ones, and of every study in reports/ with three seeds."""
    table, found = printed(), []
    for (dataset, imbalance, head, split), side in table.items():
        if (head, split) == ("Average", "all"):
            name = f"{dataset.removesuffix('-LT').replace('-', '').lower()}_if{imbalance}"
            found.append(Size(name, TEST[dataset], side, "Table S.3"))
    widest = max(size.side.spread for size in found)
    for name, images, accuracy in UNPRINTED:
        found.append(Size(name, images, Side(accuracy, widest), "not printed: the widest of Table S.3"))
    for folder in sorted((reports / "metrics").iterdir()):
        runs = [json.loads(path.read_text()) for path in sorted(folder.rglob("*.json")) if path.parent.name != "caches"]
        values = {
            run["entry"]: [seed["last"][head]["top1"] for seed in run["seeds"].values()]
            for run in runs
            for head in ["avg" if "avg" in next(iter(run["seeds"].values()))["last"] else "cls"]
            if len(run["seeds"]) >= LEAST_SEEDS
        }
        predictions = sorted((reports / "runs" / folder.name).rglob("predictions.npz"))
        if values and predictions:
            spread = math.sqrt(float(np.mean([np.var(each, ddof=1) for each in values.values()])))
            accuracy = float(np.mean([np.mean(each) for each in values.values()]))
            images = len(np.load(predictions[0])["labels"])
            source = f"root mean variance of {len(values)} runs"
            found.append(Size(folder.name, images, Side(accuracy, spread), source))
    return found


def false_verdicts(trials: int, reports: Path) -> list[dict]:
    """At each size, two methods that are truly alike."""
    rows = []
    for size in sizes(reports):
        found = simulate((size.side, size.side), size.images, trials, RULES, seed=1000 + len(rows))
        about = {"study": size.study, "images": size.images, **asdict(size.side), "source": size.source}
        rows.append(about | {rule: each["verdicts"] for rule, each in found.items()})
    return rows


def page(record: dict) -> str:
    covered = [
        (
            *(f"{r['dataset']}, ρ = {r['imbalance']}", r["split"], f"average − {r['against']}", f"{r['images']:,}"),
            *(f"{100 * r[rule]:.1f}" for rule in RULES[1:4]),
        )
        for r in record["coverage"]
    ]
    mean = {rule: np.mean([r[rule] for r in record["coverage"]]) for rule in RULES[1:4]}
    covered.append(("**all of them**", "", "", "", *(f"**{100 * mean[rule]:.1f}**" for rule in RULES[1:4])))
    false = [
        (
            *(r["study"], f"{r['images']:,}", f"{r['accuracy']:.1f}", f"{r['spread']:.2f}", r["source"]),
            *(f"{100 * r[rule]:.1f}" for rule in RULES),
        )
        for r in record["false_verdicts"]
    ]
    lines = [
        f"{record['trials']:,} trials a row: 95 % intervals that hold the true difference, in %.",
        "",
        *pipe_table(("data set", "classes", "difference", "images", *RULES[1:4]), "lllrrrr", covered),
        "",
        "Two methods that are truly alike: comparisons in which 0 lies outside the interval, in %. One seed, and an "
        "interval over one source alone, are no verdict any more.",
        "",
        *pipe_table(("study", "images", "accuracy", "spread over seeds", "spread from", *RULES), "lrrrlrrrrr", false),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=400, help="of each row")
    parser.add_argument("--reports", type=Path, default=ROOT / "reports", help="folder of all reports")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder to write into")
    parser.add_argument("--page", type=Path, help="page between whose marks the tables are put, docs/verdicts.md")
    args = parser.parse_args()
    record = {"trials": args.trials, "coverage": coverage(args.trials)}
    record["false_verdicts"] = false_verdicts(args.trials, args.reports)
    args.out.mkdir(parents=True, exist_ok=True)
    write_text(args.out / "verdicts.json", json.dumps(record, indent=1) + "\n")
    write_text(args.out / "verdicts.md", page(record))
    if args.page:
        recording.put_into(args.page, "verdicts", page(record).rstrip("\n"))


if __name__ == "__main__":
    main()
