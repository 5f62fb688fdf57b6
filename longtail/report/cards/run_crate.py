"""A study's run as a Workflow Run RO-Crate: what was run on what, by which script and numbers, and what came out.

Profile: Provenance Run Crate 0.5 (w3id.org/ro/wfrun/provenance), which contains Process and Workflow Run Crate, with
RO-Crate 1.1. dvc.yaml is the workflow, a stage of it a step, a script in stages/ the step's tool; each entry of
dvc.lock is an action with inputs, outputs, command and the entries of params.yaml that it read. What is in git lies in
the crate; what DVC keeps (data/, figures) is named with size and md5. Time, memory and machine of trainings are those
of reports/machines/; no action has a clock, as no file of the repository tells one.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longtail.base import params, yaml_file
from longtail.base.errors import UserError
from longtail.cost.upstream import needed_by, stages
from longtail.report import machines
from longtail.report.pages.archive import MOMENT
from longtail.report.results import load
from longtail.report.study import StudyConfig

PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/provenance/0.5": ("Provenance Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
TERMS = "https://w3id.org/ro/terms/workflow-run/context"
METADATA = "ro-crate-metadata.json"
ALWAYS = (
    "README.md",
    "CITATION.cff",
    "LICENSE",
    "requirements.lock",
    "data/published",
)  # beside what was read and made
IN_GIT = (
    "metrics",
    "runs",
    "analysis",
    "experts",
    "tables",
    "figures",
)  # folders of reports/ whose outputs lie in the crate
TRAINS = {"train_teacher": "teacher", "train_student": "experiment"}
FORMATS = {  # encodingFormat by suffix
    **{".py": "text/x-python", ".yaml": "application/yaml", ".lock": "text/plain", ".json": "application/json"},
    **{".md": "text/markdown", ".cff": "application/yaml", "": "text/plain"},
}
UNITS = {"seconds": ("s", "SEC"), "peak_memory_mb": ("MB", "4L")}  # and the code of UN/CEFACT


@dataclass(frozen=True)
class Step:
    """One instance of a stage, as dvc.lock records it."""

    name: str  # e.g. train_student@digits-vit
    command: str
    read: tuple[dict[str, Any], ...]  # {path, size, md5} of each input, as in the lock
    made: tuple[dict[str, Any], ...]
    numbers: dict[str, Any]  # {entry of the params file: its value}

    @property
    def kind(self) -> str:
        return self.name.partition("@")[0]

    @property
    def entry(self) -> str:
        return self.name.partition("@")[2]

    @property
    def script(self) -> str:
        """The file in stages/ that the command runs."""
        return next(word for word in self.command.split() if word.startswith("stages/"))


def recorded(study: str, root: Path, table: dict) -> tuple[list[Step], list[str]]:
    """What a study's report was made by, each step after its inputs, and the stages of it that no dvc.lock has: entries
    that were not run. table: of all params files.

    Raises UserError where the report was never made.
    """
    locks: dict[str, dict] = {}
    for path in (root / "dvc.lock", *sorted(root.glob("papers/*/dvc.lock"))):
        if path.is_file():
            locks |= yaml_file.read(path)["stages"]
    if f"report@{study}" not in locks:
        raise UserError(f"report@{study}: in no dvc.lock, so it was not run; make repro STUDY={study}")
    steps, lacking = [], []
    for stage in needed_by(f"report@{study}", stages(root / "dvc.yaml", table)):
        if stage.name not in locks:
            lacking.append(stage.name)
            continue
        lock = locks[stage.name]
        numbers = {key: value for of in lock.get("params", {}).values() for key, value in of.items()}
        command = " ".join(lock["cmd"].split())
        read = {dep["path"]: dep for dep in lock.get("deps", ())}  # a teacher's five places may name one input twice
        steps.append(Step(stage.name, command, tuple(read.values()), tuple(lock.get("outs", ())), numbers))
    return steps, lacking


def build(study: str, root: Path, table: dict, day: str) -> tuple[dict[str, Any], list[str]]:
    """The crate's metadata, and the paths from the root of the files that lie in it. day: of publication, ISO 8601.

    Raises UserError where the study was not run or the package rocrate is not installed.
    """
    config = params.build(StudyConfig, params.entry(table, "studies", study), f"studies.{study}")
    return _Crate(study, config, root, *recorded(study, root, table), table, day).finished()


class _Crate:
    """The entities, in the order in which a reader meets them; each has an @id of its own, so none is made up anew."""

    def __init__(
        self, study: str, config: StudyConfig, root: Path, steps: list[Step], lacking: list[str], table: dict, day: str
    ) -> None:
        try:
            from rocrate.rocrate import ROCrate  # an extra: nothing else needs it
        except ImportError:
            raise UserError("rocrate is not installed; pip install -e '.[crate]'") from None
        self.study, self.root, self.steps, self.files = study, root, steps, []
        self.crate = ROCrate(version="1.1")
        self.crate.metadata.extra_contexts.append(TERMS)
        where = str(table["place"].get(study, "dvc.yaml:")).removesuffix(":")
        self.workflow_file, self.params_file = where, where.replace("dvc.yaml", "params.yaml")
        self.machines = machines.load(root / "reports", study)
        self.results = load(root / "reports/metrics" / study, study, config)
        top = self.crate.root_dataset
        top["name"] = f"longtail: {config.title}"
        top["description"] = f"The run of study {study}: raw images to tables, with every number of its recipes."
        if lacking:
            top["description"] = f"{top['description']} Not run: {', '.join(lacking)}."
        top["datePublished"] = day
        top["license"] = self.thing("https://spdx.org/licenses/MIT", "CreativeWork", name="MIT licence")
        profiles = [self.thing(url, "CreativeWork", name=name, version=of) for url, (name, of) in PROFILES.items()]
        top["conformsTo"] = profiles
        self.crate.metadata.append_to("conformsTo", profiles[-1])
        self.version = str(
            yaml_file.read(root / "CITATION.cff")["version"]
        )  # a commit's would change with every commit
        self.people = self.thing("#authors", "Organization", name="The longtail authors")
        top["author"] = self.people

    def thing(self, identity: str, kind: str | list[str], **properties: Any) -> Any:
        """A contextual entity; the one that is there, where it was made before."""
        from rocrate.model import ContextEntity

        found = self.crate.get(identity)
        return found or self.crate.add(ContextEntity(self.crate, identity, {"@type": kind, **properties}))

    def data(self, path: str, about: dict[str, Any] | None = None, **properties: Any) -> Any:
        """A file or folder: in the crate where git has it, else by name. about: its block in dvc.lock."""
        inside = (
            path in (*ALWAYS, self.params_file) or path.startswith(("stages/", "docs/")) or path == self.workflow_file
        )
        inside |= path.startswith("reports/") and path.split("/")[1] in (*IN_GIT, "machines")
        facts = {"name": path} | properties
        if about:
            facts |= {"contentSize": str(about["size"]), "identifier": f"md5:{about['md5']}"}
        if not inside or not (self.root / path).exists():
            return self.thing(f"#{path}", "CreativeWork", **facts, description="kept by DVC, not in this crate")
        identity = f"{path}/" if (self.root / path).is_dir() else path
        if found := self.crate.get(identity):
            return found
        self.files.append(path)
        if identity != path:
            return self.crate.add_dataset(self.root / path, identity, properties=facts)
        facts["encodingFormat"] = FORMATS.get(Path(path).suffix, "application/octet-stream")
        return self.crate.add_file(self.root / path, identity, properties=facts)

    def finished(self) -> tuple[dict[str, Any], list[str]]:
        tools = {step.script: None for step in self.steps}
        for script in tools:
            types = ["File", "SoftwareSourceCode", "SoftwareApplication"]
            about = {"@type": types, "programmingLanguage": "Python", "version": self.version}
            tools[script] = self.data(script, **about)
        engine = self.thing("https://dvc.org", "SoftwareApplication", name="DVC", url="https://dvc.org")
        engine["softwareVersion"] = self._version("dvc")
        workflow = self._workflow(list(tools.values()))
        actions, controls = [], []
        kinds: dict[str, Any] = {}
        for step in self.steps:
            if step.kind not in kinds:
                about = {"name": step.kind, "position": str(len(kinds)), "workExample": tools[step.script]}
                kinds[step.kind] = self.thing(f"{self.workflow_file}#{step.kind}", "HowToStep", **about)
            action = self._action(step, tools[step.script])
            control = {"name": f"DVC runs {step.name}", "instrument": kinds[step.kind], "object": action}
            controls.append(self.thing(f"#control/{step.name}", "ControlAction", **control))
            actions.append(action)
        workflow["step"] = list(kinds.values())
        whole = self._whole(workflow)
        organised = {"name": f"DVC runs study {self.study}", "agent": self.people, "instrument": engine}
        self.thing("#organize", "OrganizeAction", **organised, object=controls, result=whole)
        self.crate.root_dataset["mentions"] = [whole, *actions]
        for path in ALWAYS:
            self.data(path)
        self.crate.get("README.md")["about"] = self.crate.root_dataset
        self.data(f"reports/machines/{self.study}.json")
        return self.crate.metadata.generate(), sorted(self.files)

    def _version(self, package: str) -> str:
        """Of a package in requirements.lock."""
        lines = (self.root / "requirements.lock").read_text(encoding="utf-8").splitlines()
        return next(line.partition("==")[2].split()[0] for line in lines if line.startswith(f"{package}=="))

    def _workflow(self, tools: list[Any]) -> Any:
        types = ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"]
        language = self.thing("#dvc.yaml", "ComputerLanguage", name="dvc.yaml", url="https://dvc.org/doc/user-guide")
        facts = {"@type": types, "hasPart": tools, "programmingLanguage": language}
        found = self.data(self.workflow_file, **facts, version=self.version)
        self.crate.root_dataset["mainEntity"] = found
        return found

    def _whole(self, workflow: Any) -> Any:
        """The run of all of it: from the params file to the tables, which are its formal parameters too."""
        given = {"recipes": self.data(self.params_file), "printed": self.data("data/published")}
        made = {part: self.data(f"reports/{part}/{self.study}") for part in ("metrics", "tables")}
        for name, parts in (("input", given), ("output", made)):
            formal = []
            for part, entity in parts.items():
                kind = "File" if entity.type == "File" else "Dataset"
                about = {"name": part, "additionalType": kind, "workExample": entity}
                formal.append(self.thing(f"#parameter/{part}", "FormalParameter", **about))
                entity["exampleOfWork"] = formal[-1]
            workflow[name] = formal
        about = {"name": f"Run of study {self.study}", "instrument": workflow, "agent": self.people}
        about |= {"object": list(given.values()), "result": list(made.values())}
        return self.thing("#run", "CreateAction", **about, description=f"make repro STUDY={self.study}")

    def _action(self, step: Step, tool: Any) -> Any:
        read = [self.data(each["path"], each) for each in step.read]
        read += [self._value(step, key, value) for key, value in step.numbers.items()]
        about = {"name": step.name, "description": step.command, "instrument": tool, "agent": self.people}
        made = [self.data(each["path"], each) for each in step.made]
        about |= {"object": read if len(read) > 1 else read[0], "result": made if len(made) > 1 else made[0]}
        about["actionStatus"] = "http://schema.org/CompletedActionStatus"
        if spent := self._spent(step):
            about["resourceUsage"] = spent
        return self.thing(f"#action/{step.name}", "CreateAction", **about)

    def _value(self, step: Step, key: str, value: Any) -> Any:
        """What the step read of a params file."""
        text = json.dumps(value, ensure_ascii=False, sort_keys=True)
        return self.thing(f"#params/{key}", "PropertyValue", name=key, value=text)

    def _spent(self, step: Step) -> list[Any]:
        """Seconds, memory and place of each seed of a training, where they are recorded."""
        if step.kind not in TRAINS:
            return []
        metrics = (self.results.teachers | self.results.experiments).get(step.entry, {"config_hash": None})
        told = []
        for seed, facts in self.machines.of(TRAINS[step.kind], step.entry, metrics["config_hash"]).items():
            where = machines.place(facts)
            for what, (unit, code) in UNITS.items():
                about = {"name": f"{what} of seed {seed}", "propertyID": f"{TERMS.removesuffix('/context')}#{what}"}
                about |= {"value": str(facts[what]), "unitText": unit, "unitCode": code}
                identity = f"#spent/{step.name}/seed{seed}/{what}"
                told.append(self.thing(identity, "PropertyValue", **about, description=where))
        return told


def pack(metadata: dict[str, Any], files: list[str], root: Path, out: Path) -> None:
    """The crate as a zip file; the same content gives the same bytes."""
    content = {METADATA: (json.dumps(metadata, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode()}
    for name in files:
        path = root / name
        below = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        content |= {each.relative_to(root).as_posix(): each.read_bytes() for each in below}
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            about = zipfile.ZipInfo(name, MOMENT)
            about.external_attr, about.create_system = 0o644 << 16, 3  # Unix, whatever the machine
            archive.writestr(about, data, zipfile.ZIP_DEFLATED)
