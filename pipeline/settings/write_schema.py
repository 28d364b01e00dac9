"""The settings as a JSON schema for editors: `python -m pipeline.settings.write_schema`."""

import json
from pathlib import Path
from typing import Any

from pipeline.settings import Settings

SCHEMA = Path(__file__).parents[2] / "workflow" / "schemas" / "settings.schema.json"


def settings_schema() -> dict[str, Any]:
    """The schema of a configuration file, as JSON values."""
    schema = Settings.model_json_schema()
    del schema["required"]  # an applied model brings its data set
    residuals, residual_map = schema["$defs"]["Residuals"], schema["$defs"]["ResidualMap"]
    # the model fills in a preset before it sees its fields, so pydantic's schema lacks the key
    presets = {"enum": ["paper", "fast", "lean", "tissue"], "title": "Preset"}
    residuals["properties"]["preset"] = presets
    residuals["required"] = ["maps"]
    residuals["anyOf"] = [{"required": ["preset"]}, {"required": ["masks", "visible"]}]
    residual_map["required"] = ["mae", "mask_ratio"]
    return schema


def schema_text() -> str:
    """The content of the schema file."""
    return json.dumps(settings_schema(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(schema_text(), "utf-8")
