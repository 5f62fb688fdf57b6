"""Sections of a run's page that tell what the two heads, CLS and DIST, do together and with their teacher.

From diagnostics.json, and from the file of stage `experts` where it is there.
"""

from __future__ import annotations

from longtail.evaluation.metrics import AUTHOR_GROUPS
from longtail.report.figures import charts
from longtail.report.pages.sections import Chart, Section, Table, chart, estimate, shown, table

GROUPS = ("all", *AUTHOR_GROUPS)
AVERAGE = 0.5  # weight of CLS in the published result
SOLID, DASHED, DOTTED = "-", (0, (4, 2)), (0, (1, 1.5))
PAIRS = {
    "cls_teacher": "CLS = teacher",
    "dist_teacher": "DIST = teacher",
    "cls_dominant": "CLS = image",
    "dist_dominant": "DIST = image",
    "teacher_dominant": "Teacher = image",
    "cls_dist": "CLS = DIST",
}


def fusion(diagnosed: dict, experts: dict | None, stage: str) -> Section:
    """Sweep on the test set, with the average, the held-out choice and the bound marked apart."""
    swept, found = diagnosed["fusion"], (experts or {}).get("fusion")
    weights, accuracy = swept["weights"], swept["accuracy"]
    oracle = swept["oracle_on_test"]
    marks = {"average": ([AVERAGE], SOLID)}
    if found and found["chosen"]["n"]:
        marks["held-out"] = (sorted(set(found["chosen"]["seeds"].values())), DASHED)
    marks["oracle"] = ([oracle["weight"]], DOTTED)
    series = {group.capitalize(): accuracy[group] for group in GROUPS}
    drawing = charts.lines(weights, series, "Weight of CLS", "Accuracy on the test set (%)", marks)
    caption = "Accuracy on the test set of w CLS + (1 − w) DIST (raw logits), mean over seeds."
    drawn = [chart("fusion-test", caption, drawing)]
    text = (
        "The average, w = 0.5, is the result. The oracle is the weight that turns out best on the test images: "
        "a bound, never a result. "
    )
    if found is None:
        text += "The weight chosen on held-out images is missing."
        return Section("fusion", "Weighing CLS against DIST", text, drawn, [_ways(diagnosed, None)], absent=stage)
    text += _held_out_text(found)
    if found["chosen"]["n"]:
        drawn.append(_held_out(found))
    return Section("fusion", "Weighing CLS against DIST", text, drawn, [_ways(diagnosed, found)])


def _held_out(found: dict) -> Chart:
    balanced = {of: [point[of] for point in found["heldout"]["balanced"]] for of in ("mean", "stderr")}
    chosen = {"chosen": (sorted(set(found["chosen"]["seeds"].values())), DASHED)}
    drawing = charts.lines(found["weights"], {"Held-out": balanced}, "Weight of CLS", "Mean class accuracy (%)", chosen)
    caption = "Mean class accuracy on held-out images; dashed: the weight that each seed chose."
    return chart("fusion-heldout", caption, drawing)


def _held_out_text(found: dict) -> str:
    held = found["heldout"]
    if not held["images"]:
        return "No labelled image is held out, so none chooses a weight."
    missing = ", ".join(held["missing_classes"])
    without = f" There are none of {missing}." if missing else ""
    return (
        f"The held-out choice uses {held['images']:,} labelled images that the subset left out (at most "
        f"{held['limit']} a class), which a long-tailed learner does not have: it stands beside the result, not in "
        f"its place.{without}"
    )


def _ways(diagnosed: dict, found: dict | None) -> Table:
    """CLS, DIST, their average, the held-out choice and the oracle: weight and test accuracy by group."""
    weights, accuracy = diagnosed["fusion"]["weights"], diagnosed["fusion"]["accuracy"]
    oracle = diagnosed["fusion"]["oracle_on_test"]["weight"]
    ways = {"DIST alone": 0.0, "CLS alone": 1.0, "Average (the result)": AVERAGE, "Best on test (oracle)": oracle}
    rows = []
    for name, weight in ways.items():
        i = weights.index(weight)
        at = [{of: accuracy[g][of][i] for of in ("mean", "stderr")} for g in GROUPS]
        rows.append((name, f"{weight:.2f}", *map(estimate, at)))
    if found and found["chosen"]["n"]:
        of = found["test"]["chosen"]
        chosen = [estimate(of["top1" if g == "all" else g]) for g in GROUPS]
        rows.insert(3, ("Chosen on held-out (extra labels)", estimate(found["chosen"]), *chosen))
    caption = "Accuracy on the test set, last epoch, %."
    return table(caption, ("Answer", "Weight of CLS", *(g.capitalize() for g in GROUPS)), rows)


def routing(diagnosed: dict) -> Section:
    found, heads = diagnosed["routing"], diagnosed["heads"]
    lines = {
        "CLS alone": heads["cls"]["accuracy"],
        "DIST alone": heads["dist"]["accuracy"],
        "Average (the result)": heads["avg"]["accuracy"],
        "The more confident head": found["accuracy"],
        "Either head right (bound)": found["either_right"],
        "Share answered by DIST": found["to_dist"],
        "CLS and DIST agree": diagnosed["agreement"],
    }
    rows = [(name, *(estimate(of[group]) for group in GROUPS)) for name, of in lines.items()]
    text = (
        "Each image is answered by the head whose largest softmax probability is larger. No choice between the two can "
        "exceed the share of images that at least one of them has right."
    )
    header = ("Answer", *(g.capitalize() for g in GROUPS))
    listed = table("Test images, last epoch, %: all, and means of a group's classes.", header, rows)
    return Section("routing", "Taking the more confident head", text, tables=[listed])


def agreement(experts: dict | None, stage: str) -> Section:
    title = "Teacher and student on training views"
    if experts is None:
        return Section("agreement", title, absent=stage)
    if not experts.get("agreement"):
        return Section("agreement", title, "The run was imported: its teacher and its views are not at hand.")
    text = (
        "How often two of CLS, DIST, the teacher's label and the image (the class of the image that most of a view "
        "shows) name the same class, by the group of that image. Weights of the last epoch, evaluation mode."
    )
    tables = []
    for item in experts["agreement"]:
        rows = [
            (f"{kind}, {group}", shown(item["kinds"][kind][group]["views"]), *_pairs(item["kinds"][kind][group]))
            for kind in item["kinds"]
            for group in GROUPS
            if item["kinds"][kind][group]["views"]
        ]
        caption = f"Views of epoch {item['epoch'] + 1}: %, mean over seeds; number of views of all seeds."
        tables.append(table(caption, ("Views", "Number", *PAIRS.values()), rows))
    return Section("agreement", title, text, tables=tables)


def _pairs(found: dict) -> list[str]:
    return [estimate(found[pair]) for pair in PAIRS]
