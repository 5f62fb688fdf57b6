# dvc.yaml's stages as rules: DVC says what is stale, Snakemake runs that in parallel, here or on a cluster.
# docs/engines.md says how. `snakemake --cores 2 digits`: one study; any stage's name is a target as well.
import sys

sys.path.insert(0, workflow.basedir)
from workflow import bridge, resources

with bridge.told():
    if workflow.is_main_process:
        PLAN = bridge.plan(record=not workflow.output_settings.dryrun)
    else:  # in a job on a node
        PLAN = bridge.load()
    GOAL = PLAN.goal(config.get("study"))
    ASKED = resources.load()


rule all:
    default_target: True
    input: PLAN.records(GOAL)


for study in PLAN.studies:

    rule:
        name: study
        input: PLAN.records(PLAN.goal(study))


for stage in PLAN.fresh:  # named as a target, there is nothing to do

    rule:
        name: stage


for stage, needed in PLAN.stale.items():
    family, _, key = stage.partition("@")
    asked = resources.of(stage, ASKED)

    rule:
        name: stage
        input: PLAN.records(needed)
        output: PLAN.record(stage)
        log: f"logs/{family}/{key or family}.log"
        benchmark: f"logs/{family}/{key or family}.tsv"
        threads: asked.cpus
        resources: gpu=asked.gpus, mem_mb=asked.mem_mb, runtime=asked.runtime
        shell: "exec python -m workflow.job '{rule}' --record {output} --gpus {resources.gpu} >> {log} 2>&1"


onstart:
    with bridge.told():
        bridge.start(PLAN)


onsuccess:
    bridge.record()


onerror:
    bridge.record()
