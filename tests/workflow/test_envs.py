"""The conda environments hold what their stages import, at the versions of the constraints."""

import importlib.util
import itertools
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipeline.storage.layout import STAGES

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("pins", ROOT / "envs" / "pins.py")
pins = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pins)


def dependencies(name: str, key: str = "dependencies") -> list:
    return yaml.safe_load((ROOT / "envs" / f"{name}.yaml").read_text("utf-8"))[key]


@pytest.mark.parametrize("name", pins.STAGES)
def test_environment_is_python_pip_and_what_its_stages_import_as_constrained(name):
    python, pip, packages = dependencies(name)
    assert dependencies(name, "channels") == ["conda-forge"], "conda 26.7 has no other word"
    assert python.startswith("python=3.")
    assert re.fullmatch(r"pip=\d+[.\d]*", pip)
    known = pins.constraints()
    listed = pins.pins(packages["pip"])
    assert {"pydantic", "typer"} <= set(listed)
    assert listed == {package: known[package] for package in listed}
    assert "grcsf" not in listed
    written = (ROOT / "envs" / f"{name}.yaml").read_text("utf-8")
    assert written == pins.environment_text(name), "run: python envs/pins.py"


def test_the_container_holds_what_all_stages_import_at_the_same_versions():
    written = (ROOT / "envs" / "grcsf.def").read_text("utf-8")
    assert written == pins.container_text(), "run: python envs/pins.py"
    listed = pins.pins(re.findall(r"^ {8}(\S+==\S+)", written, re.MULTILINE))
    assert listed == pins.pins(
        [package for name in pins.STAGES for package in dependencies(name)[-1]["pip"]]
    )


def test_every_stage_has_an_environment_that_its_rule_names():
    chosen = {stage: name for name, stages in pins.STAGES.items() for stage in stages}
    rules = "".join(path.read_text("utf-8") for path in ROOT.glob("workflow/rules/*.smk"))
    named = dict(
        re.findall(r'rule (\w+):(?:(?!rule ).)*?conda:\s+"\.\./\.\./envs/(\w+)\.yaml"', rules, re.S)
    )
    assert named == chosen
    assert set(chosen) == {"phantom", *STAGES}


def test_imports_inside_functions_and_by_name_count():
    assert "SimpleITK" in pins.packages_of(["ingest"])
    assert "tensorboard" in pins.packages_of(["train_mae"])
    assert "torch" not in pins.packages_of(["split"])


def test_constraints_pin_every_dependency_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = itertools.chain.from_iterable(project["optional-dependencies"].values())
    known = pins.constraints()
    for line in [*project["dependencies"], *extras]:
        requirement = Requirement(line)
        version = known.get(canonicalize_name(requirement.name))
        assert version is not None, f"constraints.txt lacks {line}"
        assert requirement.specifier.contains(version), f"{line} refuses {version}"
    text = (ROOT / "constraints.txt").read_text("utf-8")
    assert "://" not in text, "it names no place to download from"
    assert not re.search(r"^\s*-", text, re.MULTILINE)
