"""The settings as a JSON schema, for editors: `python -m pipeline.settings.schema` writes it anew.

The settings themselves are validated by `pipeline.settings`, whose messages name the nearest key.
"""

import json
from pathlib import Path
from typing import Any

from pipeline.settings import Settings

SCHEMA = Path(__file__).parents[2] / "workflow" / "schemas" / "settings.schema.json"


def settings_schema() -> dict[str, Any]:
    """The schema of a configuration file, as JSON values."""
    schema = Settings.model_json_schema()
    residuals, one_map = schema["$defs"]["Residuals"], schema["$defs"]["ResidualMap"]
    # a preset stands for these, and the model has filled them in before it sees its fields
    residuals["properties"]["preset"] = {
        "enum": ["paper", "fast", "lean", "tissue"],
        "title": "Preset",
    }
    residuals["required"] = ["maps"]
    residuals["anyOf"] = [{"required": ["preset"]}, {"required": ["masks", "visible"]}]
    one_map["required"] = ["mae", "mask_ratio"]
    return schema


def schema_text() -> str:
    """The content of the schema file."""
    return json.dumps(settings_schema(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(schema_text(), "utf-8")
