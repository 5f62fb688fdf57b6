# Only for `snakemake --report FILE.html [STUDY]`: the studies' figures as they are, with the captions of their reports.
from longtail.report.figures.captions import FIGURES

for study in sorted({Path(path).parts[-2] for path in bridge.figures()}):

    rule:
        name:
            study
        input:
            bridge.figures(study),


for path in bridge.figures():
    study, figure = Path(path).parts[-2], Path(path).stem
    title, caption = FIGURES[figure]

    rule:
        name:
            f"{figure}@{study}"
        output:
            report(path, caption="report/figure.rst", category=study, labels={"figure": title}),
        params:
            title=title,
            caption=caption,
