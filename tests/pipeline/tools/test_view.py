"""`grcsf view`: what is shown of which case, and in which order."""

import hashlib
import json
import queue
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.errors import PipelineError
from pipeline.evaluation.colours import BRIGHTER, DARKER, ON_BLACK, REFERENCE
from pipeline.settings import Dataset
from pipeline.storage.files import read_json
from pipeline.storage.folders import folder_of
from pipeline.storage.images.volumes import read_volume
from pipeline.storage.masks import grid_differences
from pipeline.storage.zarr_store import write_store
from pipeline.tools.view.cases import listed_cases
from pipeline.tools.view.server import Server
from pipeline.tools.view.view import open_view
from tests.pipeline.results import copy_results
from tests.pipeline.storage.images.grids import turned
from tests.pipeline.tools.viewed import DATASET, GRID, SCRIPT, asked, images, values

ROOT = Path(__file__).parents[3]
STATIC = ROOT / "pipeline" / "tools" / "view" / "static"
WORST_FIRST = ["turned", SCRIPT, "good", "unseen"]
MAPS = [f"Residual, {ratio}% masked, {name}" for name in ("mrm", "signed") for ratio in (50, 75)]


def told(server, path):
    status, _, body = asked(server, path)
    assert status == 200, body
    return json.loads(body)


def test_cases_are_led_through_from_the_worst_dice(viewed, page_server):
    cases = told(page_server, "cases.json")
    assert [each["case"] for each in cases["cases"]] == WORST_FIRST
    dice = [each["dice"] for each in cases["cases"]]
    assert dice == [pytest.approx(1 / 3, abs=1e-6), pytest.approx(5 / 6, abs=1e-6), 1, None]
    others = listed_cases(viewed, DATASET, ["good", SCRIPT], None, 1, "grcsf")
    assert [each.case for each in others] == ["good", SCRIPT], "equal ones as they are named"
    two = Dataset.model_validate({**DATASET.model_dump(), "split": {"subsets": 2}})
    second = listed_cases(viewed, two, [], 2, 1, "unetpp")
    assert [(each.case, each.subset) for each in second] == [("unseen", 2)]


def test_a_case_has_its_layers_in_the_report_s_colours_and_every_method_s_scores(page_server):
    case = told(page_server, f"cases/{WORST_FIRST.index(SCRIPT)}.json")
    assert case["case"] == SCRIPT
    titles = [layer["title"] for layer in case["layers"]]
    assert titles == ["image", *MAPS, "reference", "unetpp", "grcsf"]
    shades = {
        layer["title"]: [to_hex(np.array(colour[:3]) / 255) for colour in layer["colours"]]
        for layer in case["layers"]
    }
    assert shades["reference"][-1] == REFERENCE
    assert [shades[name][-1] for name in ("unetpp", "grcsf")] == [*ON_BLACK[:2]]
    assert [shades[MAPS[2]][end] for end in (0, -1)] == [DARKER, BRIGHTER]
    ends = {layer["title"]: (layer["low"], layer["high"]) for layer in case["layers"]}
    assert ends["image"] == (0, 100), "as the networks see it"
    low, high = ends[MAPS[2]]
    assert low == -high, "grey is 0"
    assert ends[MAPS[0]][0] == 0
    assert [row["method"] for row in case["scores"]] == ["unetpp", "grcsf"]
    assert case["scores"][1]["values"][0] == 1
    unseen = told(page_server, f"cases/{WORST_FIRST.index('unseen')}.json")
    assert "reference" not in [layer["title"] for layer in unseen["layers"]]
    assert (unseen["scores"], unseen["place"]) == ([], None)


def test_a_volume_lies_in_its_source_s_geometry_with_its_values(page_server, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")  # a killed view would leave images behind
    number = WORST_FIRST.index("turned")
    image, lesion = images()["turned"]
    maps = np.broadcast_to(-(np.arange(5) / 8 + 1 / 16)[:, None, None], image.shape)
    expected = {
        0: image,
        1 + MAPS.index("Residual, 75% masked, signed"): maps.astype(np.float32),
        5: lesion,
        6: np.roll(lesion, 4, axis=2),
    }
    for layer, array in expected.items():
        path = tmp_path / f"{layer}.nii"
        path.write_bytes(asked(page_server, f"volumes/{number}/{layer}.nii")[2])
        volume, (source, grid) = read_volume(path), turned(array, GRID)
        assert grid_differences(volume.geometry, grid) == []
        np.testing.assert_allclose(volume.array, source, rtol=0, atol=1e-6)


def test_the_first_place_is_in_the_lesion(page_server):
    place = told(page_server, "cases/0.json")["place"]
    lps = np.array([place[2], -place[1], -place[0]])  # z, y, x
    z, y, x = np.rint(np.linalg.solve(GRID.axes * GRID.spacing, lps - GRID.origin)).astype(int)
    assert images()["turned"][1][z, y, x]


def test_what_is_damaged_is_told_and_nothing_else_is_lost(viewed, tmp_path):
    layout = copy_results(viewed, tmp_path)
    masks = layout.masks("unetpp", 1)
    mask = folder_of(masks) / read_json(masks)["cases"]["good"]["file"]
    mask.write_bytes(mask.read_bytes() + b"x")
    layout.masks("grcsf", 1).write_text("{", "utf-8")
    for array in (layout.case_store("good") / "label", layout.residual_store("mrm", "good")):
        shard = max(array.rglob("0"), key=lambda path: path.is_file())
        shard.write_bytes(bytes(shard.stat().st_size))
    maps = np.stack([values(0), np.full_like(values(0), np.nan)])
    signed = layout.residual_store("signed", "good")
    write_store(signed, {"residual": maps}, {"fingerprint": "x"}, slice_axis=1)
    faults = {
        1: "mrm/good.zarr: residual cannot be read",
        2: "mrm/good.zarr: residual cannot be read",
        4: "signed/good.zarr: residual holds values that are no finite numbers",
        5: "ingest/good.zarr: label cannot be read",
        6: "case good: mask .* is not as postprocess wrote",
        7: "grcsf/subset-1.json: damaged",
    }
    with open_view(layout, DATASET, ["good"]) as server:
        case = json.loads(server.answer("cases/0.json")[1])
        assert [layer["title"] for layer in case["layers"]] == [
            *("image", *MAPS, "reference", "unetpp", "grcsf")
        ]
        for layer in range(8):
            if layer not in faults:
                assert server.answer(f"volumes/0/{layer}.nii")[1]
                continue
            with pytest.raises(PipelineError, match=faults[layer]):
                server.answer(f"volumes/0/{layer}.nii")


def test_a_repeat_is_chosen(viewed, tmp_path):
    layout, experiments = copy_results(viewed, tmp_path), DATASET.model_dump()["experiments"]
    experiments["unetpp"]["repeats"] = 2
    dataset = Dataset.model_validate({**DATASET.model_dump(), "experiments": experiments})
    for path in layout.masks("unetpp", 1).parent.glob("subset-1*"):
        repeat = layout.masks("unetpp/repeat-2", 1).with_name(path.name)
        repeat.parent.mkdir(exist_ok=True)
        path.rename(repeat)
    for repeat, masks in ((1, ["grcsf"]), (2, ["unetpp/repeat-2", "grcsf"])):
        with open_view(layout, dataset, ["good"], repeat=repeat) as server:
            layers = json.loads(server.answer("cases/0.json")[1])["layers"]
        assert [layer["title"] for layer in layers if layer["kind"] == "mask"] == masks
    with pytest.raises(PipelineError, match="--repeat: found 3, expected at most 2"):
        open_view(layout, dataset, [], repeat=3)


def call(config, *arguments):
    return CliRunner().invoke(app, ["view", "--config", str(config), *arguments])


def test_before_any_prediction_image_maps_and_reference_are_seen(config, monkeypatch):
    opened = []

    def look(server, *_):
        opened.append(json.loads(server.answer("cases/0.json")[1]))
        raise KeyboardInterrupt

    monkeypatch.setattr(Server, "serve_forever", look)
    monkeypatch.setattr("webbrowser.open", pytest.fail)
    ended = call(config, "a", "--no-browser")
    assert ended.exit_code == 0, ended.exception
    address, last = ended.output.splitlines()
    assert re.match(r"http://127\.0\.0\.1:\d+/[\w-]{43}/ ", address)
    assert last == "view ended"
    (case,) = opened
    titles = ["image", "Residual, 50% masked", "Residual, 75% masked", "reference"]
    assert [layer["title"] for layer in case["layers"]] == titles
    assert case["scores"] == []


def test_a_browser_is_opened_at_the_printed_address(config, monkeypatch):
    asked_for = queue.Queue()

    def wait(server, *_):
        assert asked_for.get(timeout=60) == server.address
        raise KeyboardInterrupt

    monkeypatch.setattr("webbrowser.open", asked_for.put)
    monkeypatch.setattr(Server, "serve_forever", wait)
    assert call(config, "a").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["aa"], "case aa: not among the 5 ingested cases; did you mean 'a'?"),
        (["--by", "unett"], "experiments has no 'unett'; it has: unet"),
        (["--subset", "2"], "--subset: found 2, expected 1 to 1"),
        (["--dataset", "disc"], "has no 'disc'; it has: discs"),
    ],
)
def test_what_cannot_be_shown_is_one_line(config, arguments, reason):
    error = call(config, "--no-browser", *arguments).exception
    assert isinstance(error, PipelineError)
    assert reason in str(error)
    assert "\n" not in str(error)


def test_niivue_is_the_file_that_its_note_names_and_is_installed_with_its_licence():
    note = (STATIC / "niivue.md").read_text("utf-8")
    digest = hashlib.sha256((STATIC / "niivue.umd.js").read_bytes()).hexdigest()
    assert f"SHA-256  {digest}" in note
    assert "BSD 2-Clause License" in (STATIC / "niivue-LICENSE.txt").read_text("utf-8")
    options = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    installed = {
        path
        for pattern in options["package-data"]["pipeline"]
        for path in (ROOT / "pipeline").glob(pattern)
    }
    assert set(STATIC.iterdir()) <= installed
