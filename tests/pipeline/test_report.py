"""The page: whole, self-contained, and showing each case the right way round."""

import base64
import csv
import io
import re

import numpy as np
import pytest
from matplotlib.image import imread

from grcsf.contrast import lesion_contrast
from pipeline.compare import compare
from pipeline.evaluate import evaluate
from pipeline.evaluation.case_view import view_case
from pipeline.evaluation.report_parts import cohort_table, dice_by_cohort
from pipeline.evaluation.score_files import read_scores
from pipeline.postprocess import postprocess
from pipeline.report import report
from pipeline.settings import Dataset
from pipeline.storage.layout import folder_of
from pipeline.storage.zarr_store import open_store, read_array, write_store
from tests.pipeline.results import RESIDUALS

SHAPE = (6, 24, 20)
NAMES = ("unetpp", "grcsf")
SETTINGS = {
    "source": {"adapter": "nnunet", "root": "somewhere"},
    "slices": {"size": (32, 32), "window": (0, 100)},
    "mae": {"shared": {"preset": "tiny"}},
    "residuals": {"mrm": RESIDUALS},
    "experiments": {"unetpp": {"model": "unetpp"}, "grcsf": {"model": "grcsf", "residuals": "mrm"}},
    "evaluation": {"baseline": "unetpp", "bootstrap_samples": 100},
}


def settings(**over):
    return Dataset.model_validate({**SETTINGS, **over})


def write_history(manifest, epochs=3):
    path = folder_of(manifest) / "history.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        columns = ("epoch", "train_loss", "validation_loss", "learning_rate", "seconds")
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for epoch in range(epochs):
            writer.writerow(dict.fromkeys(columns, 1 / (epoch + 1)) | {"epoch": epoch})


@pytest.fixture(scope="module")
def tree(results_tree_at, tmp_path_factory, box):
    """Three test cases (one without lesion) and one unlabelled; the MAE was not trained here."""
    results_tree = results_tree_at(tmp_path_factory.mktemp("report"))
    big, small = box(SHAPE, (4, 5), (14, 20), (3, 9)), box(SHAPE, (1, 2), (3, 5), (3, 5))
    labels = {"big": big | small, "small": small, "none": np.zeros(SHAPE, bool), "unseen": None}
    random = np.random.default_rng(0)
    for case, label in labels.items():
        image = random.integers(0, 60, SHAPE, dtype=np.int16)
        stored = None if label is None else label.astype(np.uint8)
        results_tree.add_case(case, image, stored, group="R<1>", notes=["header & body differ"])
        maps = random.random((2, SHAPE[0], 16, 16)).astype(np.float16)
        write_store(
            results_tree.layout.residual_store("mrm", case),
            {"residual": maps},
            {"fingerprint": case},
            slice_axis=1,
        )
    results_tree.write_split([["big", "small", "none"]], {"bad": ["case bad: truncated"]})
    masks = {"big": big, "small": small, "none": np.zeros(SHAPE), "unseen": small}
    for name in NAMES:
        shift = 1 if name == "unetpp" else 0
        shifted = {case: np.roll(mask * 0.9, shift, axis=2) for case, mask in masks.items()}
        results_tree.add_predictions(name, 1, shifted)
        results_tree.add_model(name, 1, 1_000_000)
        write_history(results_tree.layout.model(name, 1))
        finish(results_tree, name, settings())
    return results_tree


def finish(tree, name, dataset):
    postprocess(tree.layout, name, 1, dataset.postprocess)
    evaluate(tree.layout, name, (1,), dataset.evaluation, dataset.postprocess, seed=0, threads=1)


def page_of(tree, dataset):
    compare(tree.layout, list(dataset.experiments), (1,), dataset.evaluation, seed=0)
    report(tree.layout, dataset, seed=0)
    return tree.layout.report.read_text("utf-8")


@pytest.fixture(scope="module")
def page(tree):
    return page_of(tree, settings())


@pytest.fixture(scope="module")
def example(tree, page):
    assert page
    return tree.layout.report.with_name("example.png").read_bytes()


def test_same_results_give_the_same_page_also_after_a_check(tree, page, example):
    assert '<a href="../check/check.html">' in page
    check = tree.layout.check(".html")
    check.parent.mkdir()
    check.write_text("all whole", "utf-8")
    assert page_of(tree, settings()) == page
    assert tree.layout.report.with_name("example.png").read_bytes() == example


def test_page_holds_everything_and_asks_for_nothing(page):
    for heading in ("Comparison", "Dice by lesion size", "Cases", "Data", "Training", "Settings"):
        assert f"<h2>{heading}</h2>" in page
    assert "Calcium scores" not in page
    # nothing is loaded: every picture is in the page, and the one link leads to a page beside it
    assert re.findall(r"""(?:src|href)=["'](?!data:|#)(.*?)["']""", page) == ["../check/check.html"]
    assert re.search(r"<strong>0\.\d{3}</strong>.*<small>\[0\.\d\d, \d\.\d\d\]</small>", page)
    assert "url(" not in page
    assert "@import" not in page
    images = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(images) == 4 + 2  # four cases, Dice by size, and the curves
    for image in images:
        assert imread(io.BytesIO(base64.b64decode(image)), format="png").std() > 0.05


def test_page_names_cases_faults_notes_and_settings(page):
    assert "<b>big</b> · slice 5 of 6 · 40 lesion voxels" in page
    assert re.search(r"<b>small</b>.*unetpp 0\.500, grcsf 1\.000", page)
    assert "<b>none</b> · slice 4 of 6 · 0 lesion voxels" in page
    assert "<b>unseen</b> · slice 2 of 6 · no reference" in page
    assert "case bad: truncated" in page
    assert "header &amp; body differ" in page
    assert "all 4" in page
    assert "R&lt;1&gt;" in page
    assert "mask_ratio: 0.75" in page
    assert "MAE shared: not trained here" in page
    assert "averaged over 2 and 4 passes of stratified masks" in page


def test_page_tells_how_bright_lesions_are_in_the_residual_maps(tree, page, box):
    # of 24 × 20 pixels, 16 × 16: each map's pixel by the centre that it covers
    rows, columns = np.int_(np.arange(0.75, 24, 1.5)), np.int_(np.arange(0.625, 20, 1.25))
    small = box(SHAPE, (1, 2), (3, 5), (3, 5))
    contrasts = {"Residual, 50% masked": [], "the image itself": []}
    for case, lesion in (("big", small | box(SHAPE, (4, 5), (14, 20), (3, 9))), ("small", small)):
        planes = np.flatnonzero(lesion.any(axis=(1, 2)))
        shown = np.ix_(planes, rows, columns)
        maps = read_array(open_store(tree.layout.residual_store("mrm", case)), "residual")
        image = read_array(open_store(tree.layout.case_store(case)), "image")
        contrasts["Residual, 50% masked"].append(lesion_contrast(maps[0, planes], lesion[shown]))
        contrasts["the image itself"].append(lesion_contrast(image[shown], lesion[shown]))
    for name, expected in contrasts.items():
        (mean,) = re.findall(rf"<td>mrm</td><td>{name}</td><td>2</td><td>(.*?)</td>", page)
        assert float(mean) == pytest.approx(np.mean(expected), abs=6e-4)


def test_example_is_the_picture_of_the_median_case(page, example):
    # Dice over both experiments: small 0.75, big 0.87, none 1
    picture = page[page.index("Case big") : page.index("<b>big</b>")]
    assert base64.b64encode(example).decode() in picture


def test_pictures_do_without_residual_maps(tree):
    only = {"unetpp": {"model": "unetpp"}}
    without = page_of(tree, settings(experiments=only, residuals={}))
    assert "Residual maps" not in without
    assert without.count("<figure>") == 6


def test_calcium_page_lists_agatston_scores(tree):
    evaluation = {"metrics": "calcium", "bootstrap_samples": 100}
    dataset = settings(evaluation=evaluation, postprocess={"method": "calcium"})
    for name in NAMES:
        finish(tree, name, dataset)
    calcium = page_of(tree, dataset)
    assert "<h2>Calcium scores</h2>" in calcium
    assert "HU threshold alone" in calcium
    assert "<td>0.0 (0)</td>" in calcium
    assert 'alt="Agreement of calcium scores"' in calcium
    for name in NAMES:
        finish(tree, name, settings())


def test_cohorts_are_told_apart_where_there_are_two(tree, page):
    assert "Dice by group" not in page
    scores = {name: read_scores(tree.layout, name, (1,)) for name in NAMES}
    for rows in scores.values():
        rows.loc["small", "group"] = "R2"
    assert dice_by_cohort(scores) == {
        "R2": {"unetpp": [pytest.approx(0.5)], "grcsf": [pytest.approx(1)]},
        "R<1>": {name: rows["dice"].drop("small").tolist() for name, rows in scores.items()},
    }
    means = {"R2": {"patients": 1, "dice": 0.5}, "R<1>": {"patients": 2, "dice": None}}
    table = cohort_table({"unetpp": {"by_group": means}})
    assert table.rows == [["R2", "1", "0.500"], ["R<1>", "2", "–"]]


def test_view_shows_the_slice_of_the_largest_lesion_in_every_plane(tree):
    view = view_case(tree.layout, settings(), "big", 1)
    assert (view.z, view.slices) == (4, 6)
    assert view.reference is not None
    assert view.reference.sum() == view.target.sum() == 36
    np.testing.assert_array_equal(view.predictions["grcsf"], view.reference)
    assert set(view.residuals) == {"Residual, 50% masked", "Residual, 75% masked"}
    assert view.pixel_mm == (0.5, 0.7)
