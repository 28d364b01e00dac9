"""The schema file and the README of config/ follow the settings, and the schema takes what fits."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from pipeline.settings.write_schema import SCHEMA, schema_text, settings_schema

CONFIG = Path(__file__).parents[2] / "config"
CONFIGS = sorted(CONFIG.glob("*.yaml"))
# parts of the schema by the heading of the README under which their keys stand
DESCRIBED = {
    "store": ["Store"],
    "resources": ["Resources"],
    "apply": ["Apply"],
    "source": ["Source"],
    "slices": ["Slices"],
    "split": ["Split"],
    "mae.<name>": ["Mae"],
    "residuals.<name>": ["Residuals"],
    "experiments.<name>": ["Experiment", "Training", "Gcu", "Rcu"],
    "augment": ["Augment"],
    "postprocess": ["Postprocess"],
    "evaluation": ["Evaluation"],
    "figures": ["Figures"],
    "tables.<name>": ["Table"],
}
ELSEWHERE = {"resources", "training"}  # sections, whose keys stand by themselves


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


@pytest.mark.parametrize(("heading", "parts"), DESCRIBED.items())
def test_the_readme_has_a_row_for_every_key_and_for_no_other(heading, parts):
    text, section = (CONFIG / "README.md").read_text("utf-8"), re.escape(heading)
    ((rows, _),) = re.findall(rf"^##+ `{section}`(.*?)(^##|\Z)", text, re.MULTILINE | re.DOTALL)
    cells = re.findall(r"^\| (`[^|]+) \|", rows, re.MULTILINE)
    named = {key.rpartition(".")[2] for cell in cells for key in re.findall(r"`([\w.]+)`", cell)}
    known = settings_schema()["$defs"]
    assert named == {key for part in parts for key in known[part]["properties"]} - ELSEWHERE
