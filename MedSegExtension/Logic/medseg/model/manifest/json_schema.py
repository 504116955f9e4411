"""The JSON Schema of the manifest, for editors and for tools without MedSeg.

``python -m medseg.model.manifest.json_schema`` writes it again after a change of `schema` or `steps`.
"""

from __future__ import annotations

import json
from pathlib import Path

from .schema import Manifest

PATH = Path(__file__).with_name("manifest.schema.json")


def schema_text() -> str:
    """The schema as the text that belongs into `PATH`."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Manifest.model_json_schema()}
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PATH.write_text(schema_text(), encoding="utf-8", newline="\n")
    print(PATH.name)
