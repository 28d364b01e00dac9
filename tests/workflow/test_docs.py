"""Pages say for whom they are, their commands exist, and the tutorial's scans are sound."""

import re
import runpy
import shlex
import tomllib
from pathlib import Path

import numpy as np
import pytest
import typer

from pipeline.cli import app
from pipeline.datasets.dicom import list_cases
from pipeline.datasets.phantoms.phantom import write_phantom
from pipeline.storage.images.volumes import read_volume
from pipeline.tools.init.proposal import SIZED

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
OWN = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "config/README.md")]
BLOCKS = re.compile(r"^( *)```\w*\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


def relative(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def calls(page: Path) -> list[list[str]]:
    """The words of each `grcsf …` of a page's blocks, comments left out."""
    blocks = "".join(block for _, block in BLOCKS.findall(page.read_text("utf-8")))
    lines = blocks.replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines if "grcsf " in line]
    return [line[1:] for line in words if line and line[0] == "grcsf"]


def test_every_page_is_in_the_navigation():
    navigation = tomllib.loads((ROOT / "docs" / "zensical.toml").read_text("utf-8"))["project"][
        "nav"
    ]
    missing = [relative(page) for page in PAGES if f"'{relative(page)}'" not in str(navigation)]
    assert not missing, "docs/zensical.toml: name them under nav"


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_a_page_says_first_for_whom_it_is(page):
    title, empty, whom = page.read_text("utf-8").splitlines()[:3]
    assert title.startswith("# ")
    assert not empty
    assert whom.startswith("*For whoever ")


@pytest.mark.parametrize("page", [page for page in [*PAGES, *OWN] if calls(page)], ids=relative)
def test_commands_of_a_page_exist_with_all_their_options(page):
    for words in calls(page):
        command = typer.main.get_command(app)
        while words and hasattr(command, "commands") and not words[0].startswith("-"):
            assert words[0] in command.commands, f"no command {words[0]}"
            command = command.commands[words.pop(0)]
        known = {name for option in command.params for name in option.opts} | {"--help"}
        assert {word for word in words if word.startswith("--")} <= known, " ".join(words)


def test_the_tutorial_shortens_what_init_proposes():
    text = (ROOT / "docs" / "tutorial" / "own-folders.md").read_text("utf-8")
    assert f"s/steps: {SIZED['length'][1]}/" in text
    assert f"s/epochs: {SIZED['epochs'][1]}/" in text


def test_the_tutorial_s_dicom_scans_are_the_phantoms(tmp_path, monkeypatch):
    msd, hospital = tmp_path / "msd", tmp_path / "hospital"
    write_phantom("chest", msd, cases=3, unlabelled=1, shape=(8, 16, 16))  # the third is oblique
    script = ROOT / "docs" / "tutorial" / "to_dicom.py"
    monkeypatch.setattr("sys.argv", [str(script), str(msd), str(hospital)])
    runpy.run_path(str(script))
    with pytest.raises(SystemExit, match="hospital: is there already, expected a new folder"):
        runpy.run_path(str(script))
    cases = list_cases(hospital / "scans")
    assert [case.case for case in cases] == ["lung_001", "lung_002", "lung_003"]
    for case in cases:
        scan, phantom = read_volume(case.image), read_volume(msd / f"imagesTr/{case.case}.nii.gz")
        np.testing.assert_array_equal(scan.array, phantom.array)
        np.testing.assert_allclose(scan.geometry.direction, phantom.geometry.direction, atol=1e-6)
        np.testing.assert_allclose(scan.geometry.spacing, phantom.geometry.spacing, atol=1e-4)
        np.testing.assert_allclose(scan.geometry.origin, phantom.geometry.origin, atol=1e-3)
    assert len(list((hospital / "new" / "lung_901").iterdir())) == 8
