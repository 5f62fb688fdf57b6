"""docs/schema/*.json from the types of the reports' files: report/records.py, report/diagnosis_records.py.

python stages/schema.py --out docs/schema
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from longtail.base.errors import run_main
from longtail.base.files import write_json
from longtail.report.diagnosis_records import Diagnostics, Experts
from longtail.report.records import AnyMetrics, Run, StudyMachines

FORMATS = {  # file: type, title
    "metrics": (AnyMetrics, "Metrics file, version 1"),
    "run": (Run, "Run record, version 1"),
    "machines": (StudyMachines, "Record of machines, version 1"),
    "diagnostics": (Diagnostics, "Diagnostics, version 1"),
    "experts": (Experts, "The two experts of a distilled student: reports/experts/<study>/<entry>.json, version 1"),
}
DRAFT = "https://json-schema.org/draft/2020-12/schema"


class _Closed(GenerateJsonSchema):
    """Blocks take no other keys; `null` beside one type stands in a list; no title made from a key's name."""

    def typed_dict_schema(self, schema: Any) -> dict:
        found = super().typed_dict_schema(schema) | {"additionalProperties": False}
        return {key: value for key, value in found.items() if key != "title"}

    def dict_schema(self, schema: Any) -> dict:
        found = super().dict_schema(schema)
        return found | {"additionalProperties": False} if "patternProperties" in found else found

    def nullable_schema(self, schema: Any) -> dict:
        found = super().nullable_schema(schema)
        inner = found.get("anyOf", [{}])[0]
        return inner | {"type": [inner["type"], "null"]} if isinstance(inner.get("type"), str) else found

    def tagged_union_schema(self, schema: Any) -> dict:
        """if, then, else by the key that tells which: a fault is then told of the one meant. The first is the rule."""
        tag, choices = schema["discriminator"], {key: self.generate_inner(of) for key, of in schema["choices"].items()}
        rule = found = next(iter(choices.values()))
        for key, of in choices.items():
            if of != rule:
                found = {"if": {"properties": {tag: {"const": key}}}, "then": of, "else": found}
        return {"type": "object", "required": [tag], **found}

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def schema(name: str) -> dict[str, Any]:
    """One format's JSON Schema."""
    kind, title = FORMATS[name]
    found = TypeAdapter(kind).json_schema(schema_generator=_Closed)
    return {"$schema": DRAFT, "$id": f"{name}.schema.json", "title": title, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder, e.g. docs/schema")
    args = parser.parse_args()
    for name in FORMATS:
        write_json(args.out / f"{name}.schema.json", schema(name))


if __name__ == "__main__":
    run_main(main)
