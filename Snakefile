# dvc.yaml's stages as rules: DVC says what is stale, Snakemake runs it in parallel, here or on a cluster (docs/engines.md).
# Targets: nothing (all whose raw data are here), a study (`snakemake --cores 2 digits`, or --config study=digits), a stage by
# its name in dvc.yaml; papers need not be named.
import sys
from snakemake.utils import min_version

min_version("9.27")
sys.path.insert(0, workflow.basedir)
from workflow import bridge, gpus, resources

with bridge.told():
    SETTINGS = bridge.settings(config)
    PLAN = bridge.plan(dry=workflow.output_settings.dryrun) if workflow.is_main_process else bridge.load()
    ASKED = {stage: resources.of(stage) for stage in PLAN.stale}

# jobs run on this machine: then its GPUs are ours to give out; a cluster does that itself
LOCAL = workflow.is_main_process and workflow.resource_settings.nodes is None
if LOCAL and gpus.devices():
    workflow.register_resource("gpu", SETTINGS["gpu_share"] * len(gpus.devices()))


rule all:
    default_target: True
    input:
        lambda _: bridge.asked(PLAN, SETTINGS["study"]),


for target in [*PLAN.studies, *PLAN.fresh]:

    rule:
        name:
            target
        input:
            lambda _, target=target: bridge.asked(PLAN, target),


for stage in PLAN.stale:

    rule:
        name:
            stage
        input:
            lambda _, stage=stage: bridge.waits_for(PLAN, stage),
        output:
            PLAN.record(stage),
        log:
            bridge.log_of(stage, ".log"),
        benchmark:
            bridge.log_of(stage, ".tsv")
        conda:
            "workflow/environment.yaml"
        threads: ASKED[stage].cpus
        resources:
            **ASKED[stage].request(SETTINGS),
        params:
            stage=PLAN.stages[stage],
            share=SETTINGS["gpu_share"],
            gpus=ASKED[stage].gpus if LOCAL else 0,
        shell:
            "exec python -m workflow.job {params.stage} --record {output} --gpus {params.gpus} --gpu-share {params.share} > {log} 2>&1"


if bridge.reporting():

    include: "workflow/figures.smk"


onstart:
    with bridge.told():
        bridge.start(PLAN)


onsuccess:
    bridge.record()


onerror:
    bridge.record()
