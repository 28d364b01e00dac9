"""The schema file follows the settings, and accepts what they accept."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from pipeline.settings.write_schema import SCHEMA, schema_text, settings_schema

CONFIGS = sorted((Path(__file__).parents[2] / "config").glob("*.yaml"))


def faults(config: object) -> list[str]:
    validator = jsonschema.Draft202012Validator(settings_schema())
    return [fault.message for fault in validator.iter_errors(config)]


def test_schema_file_is_written_from_the_settings():
    wanted = "run: python -m pipeline.settings.write_schema"
    assert SCHEMA.read_text("utf-8") == schema_text(), wanted
    jsonschema.Draft202012Validator.check_schema(json.loads(schema_text()))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_fits_the_schema(path):
    assert not faults(yaml.safe_load(path.read_text("utf-8")))


def test_schema_refuses_what_the_settings_refuse():
    atlas = next(path for path in CONFIGS if path.stem == "atlas")
    config = yaml.safe_load(atlas.read_text("utf-8"))
    (dataset,) = config["datasets"].values()
    (residuals,) = dataset["residuals"].values()
    assert any("'sedd'" in fault for fault in faults({**config, "sedd": 1}))
    del residuals["preset"]
    assert faults(config), "without a preset, masks and visible have to be given"
