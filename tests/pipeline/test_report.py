"""The page: whole, self-contained, and showing each case the right way round."""

import base64
import io
import re
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.image import imread
from PIL import Image

from grcsf.contrast import lesion_contrast
from pipeline.compare import compare
from pipeline.errors import PipelineError
from pipeline.evaluate import evaluate
from pipeline.evaluation.case_view import residual_planes
from pipeline.evaluation.colours import BRIGHTER, REFERENCE
from pipeline.evaluation.contrast import contrast_table
from pipeline.evaluation.report_page import sample
from pipeline.postprocess import postprocess
from pipeline.report import report
from pipeline.settings import Dataset
from pipeline.storage.files import write, write_json
from pipeline.storage.folders import folder_of
from pipeline.storage.zarr_store import open_store, read_array, write_store
from tests.pipeline.results import RESIDUALS, copy_results

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
        store = results_tree.layout.residual_store("mrm", case)
        write_store(store, {"residual": maps}, {"fingerprint": case}, slice_axis=1)
    results_tree.write_split([["big", "small", "none"]], {"bad": ["case bad: truncated"]})
    masks = {"big": big, "small": small, "none": np.zeros(SHAPE), "unseen": small}
    for name in NAMES:
        shift = 1 if name == "unetpp" else 0
        shifted = {case: np.roll(mask * 0.9, shift, axis=2) for case, mask in masks.items()}
        results_tree.add_predictions(name, 1, shifted)
        results_tree.add_model(name, 1, 1_000_000)
        history = folder_of(results_tree.layout.model(name, 1)) / "history.csv"
        history.parent.mkdir(parents=True)
        unit = ",rcu_0" if name == "grcsf" else ""
        lines = [f"epoch,train_loss,validation_loss,learning_rate,seconds{unit}", "0,1,1,1,1"]
        lines += ["1,0.5,0.5,0.5,0.5", "2,0.3,0.3,0.3,0.3"]
        history.write_text(
            "\n".join(line + ",0.004" * (bool(unit) and i > 0) for i, line in enumerate(lines))
        )
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


def test_same_results_give_the_same_page_also_after_a_check(tree, page):
    assert '<a href="../check/check.html">' in page
    check = tree.layout.check(".html")
    check.parent.mkdir()
    check.write_text("all whole", "utf-8")
    assert page_of(tree, settings()) == page


def test_page_holds_everything_and_asks_for_nothing(page):
    assert "Calcium scores" not in page
    # nothing is loaded: every picture is in the page, and the one link leads to a page beside it
    assert re.findall(r"""(?:src|href)=["'](?!data:|#)(.*?)["']""", page) == ["../check/check.html"]
    assert "url(" not in page
    assert "@import" not in page
    images = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(images) == 2  # Dice by size, and the curves
    for image in images:
        assert imread(io.BytesIO(base64.b64decode(image)), format="png").std() > 0.05


def test_a_case_is_shown_in_every_slice_with_lesion_or_prediction(page):
    numbers = {"big": [2, 5], "small": [2], "none": [4], "unseen": [2]}
    for figure in re.findall(r'<figure class="case".*?</figure>', page, re.DOTALL):
        (case,) = re.findall(r"<figcaption><b>(\w+)</b>", figure)
        places = [int(number) for number in re.findall(r"Slice (\d) of 6", figure)]
        # the largest lesion's slice is shown, the others wait; of nothing, the middle slice
        assert sorted(places) == numbers[case]
        assert places[0] == max(numbers[case])
        assert len(re.findall(r"<template>", figure)) == len(places) - 1
        pictures = [base64.b64decode(webp) for webp in re.findall(r"webp;base64,([^\"]+)", figure)]
        sizes = [Image.open(io.BytesIO(picture)).size for picture in pictures]
        assert sizes == [(20, 24), (16, 16), (16, 16)] * len(places)


def test_the_whole_slice_has_every_prediction_also_outside_the_close_up(page):
    def outlines(panel):
        drawn = re.findall(r'stroke="(#\w+)" stroke-width="[\d.]+" d="(.+?)"', panel)
        return {(colour, path) for colour, path in drawn if colour != REFERENCE}

    slices = [part.partition('<p class="place">')[0] for part in page.split('class="panels"')[1:]]
    whole, near = [], []
    for slice_ in slices:
        first, *_, last = slice_.split('<div class="panel ')[1:]
        whole.append(outlines(first))
        near.append(outlines(last))
    assert whole == near
    assert max(map(len, whole)) == len(NAMES)


def test_cases_too_large_for_one_page_have_a_page_each_and_none_stays(tree, tmp_path, monkeypatch):
    copy = SimpleNamespace(layout=copy_results(tree.layout, tmp_path))
    folder = copy.layout.report.with_name("cases")
    monkeypatch.setattr("pipeline.evaluation.report_page.case_figures.LARGEST_MB", 0.016)
    main = page_of(copy, settings())
    assert sorted(path.name for path in folder.iterdir()) == [
        *("big.html", "none.html", "small.html", "unseen.html")
    ]
    assert "<template>" not in main
    assert '<a href="cases/big.html">' in main
    apart = (folder / "big.html").read_text("utf-8")
    assert re.findall(r"Slice (\d) of 6", apart) == ["5", "2"]
    assert '<a href="../report.html#case-1">' in apart
    write(folder / "gone.html", "of a case that was renamed")
    page_of(copy, settings())
    assert not (folder / "gone.html").exists()
    assert "data:image/webp" in main, "a slice of each case"
    monkeypatch.setattr("pipeline.evaluation.report_page.case_figures.LARGEST_MB", 0.008)
    links = page_of(copy, settings())
    assert "data:image/webp" not in links, "even these are too large"
    assert re.findall(r'id="(case-\d)".*?href="(.*?)"', links, re.DOTALL) == [
        *[("case-1", "cases/big.html"), ("case-2", "cases/small.html")],
        *[("case-3", "cases/none.html"), ("case-4", "cases/unseen.html")],
    ]
    monkeypatch.undo()
    assert "<template>" in page_of(copy, settings())
    assert not folder.exists()


def test_page_names_cases_faults_notes_and_settings(page):
    assert "<b>big</b> · 40 lesion voxels" in page
    assert re.search(r"<b>small</b>.*unetpp 0\.500, grcsf 1\.000", page)
    assert "<b>unseen</b> · no reference" in page
    assert "case bad: truncated" in page
    assert "header &amp; body differ" in page
    assert "R&lt;1&gt;" in page
    assert "mask_ratio: 0.75" in page
    assert "MAE shared: not trained here" in page
    assert "<td>grcsf, subset 1</td><td>RCU at full scale</td><td>0.4%</td>" in page
    assert "grcsf, subset 1: the RCU at full scale stayed at nothing: in 3 epochs" in page
    assert page.count("stayed at nothing") == 1


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


def test_signed_maps_are_explained_and_both_directions_are_told(tree, page, tmp_path):
    copy = SimpleNamespace(layout=copy_results(tree.layout, tmp_path))
    dataset = settings(residuals={"mrm": RESIDUALS.model_copy(update={"difference": "signed"})})
    plain = contrast_table(copy.layout, settings())
    for case in ("big", "small"):
        path = copy.layout.residual_store("mrm", case)
        kept = read_array(open_store(path), "residual")
        turned = np.stack([-kept[0], kept[1]])
        write_store(path, {"residual": turned}, {"fingerprint": case}, slice_axis=1)
    table = contrast_table(copy.layout, dataset)
    (first, second, _), (turned_first, same_second, _) = plain.numbers, table.numbers
    assert turned_first["auc"] == pytest.approx(1 - first["auc"])
    assert same_second["auc"] == second["auc"]
    for row, numbers in zip(table.rows[:2], table.numbers[:2], strict=True):
        auc = numbers["auc"]
        below = f" (darker: {1 - auc:.3f})" if auc < 0.5 else ""
        assert row[-1] == f"{auc:.3f}{below}"
    other = page_of(copy, dataset)
    for said in ("the image minus its reconstruction", "Maps of mrm keep the sign"):
        assert said in other
        assert said not in page
    patches = f'<i class="patch" style="border-color: {BRIGHTER}"></i>brighter than foreseen'
    assert patches in other
    assert patches not in page


def test_maps_with_holes_are_refused_in_a_line_that_names_the_case(tree, tmp_path):
    layout = copy_results(tree.layout, tmp_path)
    path = layout.residual_store("mrm", "big")
    maps = read_array(open_store(path), "residual").copy()
    maps[1, 4, 3, 3] = np.nan
    write_store(path, {"residual": maps}, {"fingerprint": "big"}, slice_axis=1)
    told = (
        r"big\.zarr: found residuals that are no finite numbers in slice 5 of case big; delete it"
    )
    with pytest.raises(PipelineError, match=told):
        report(layout, settings(), seed=0)
    with pytest.raises(PipelineError, match=told):
        residual_planes(layout, settings(), "mrm", "big", 1, 4)


def test_page_tells_what_the_autoencoders_have_learnt(tree, page):
    assert "What the autoencoders have learnt" not in page, "none was trained here"
    losses = {"masked_loss": 0.011, "average_slice": 0.031, "patch_mean": 0.018}
    manifest = tree.layout.mae("shared")
    write_json(manifest, {"validation": losses})
    learnt = page_of(tree, settings())
    write_json(manifest, {"validation": {**losses, "masked_loss": 0.031}})
    nothing = page_of(tree, settings())
    manifest.unlink()
    figures = "<td>shared</td><td>{}</td><td>0.0310</td><td>0.0180</td><td>{}</td>"
    assert figures.format("0.0110", "65% lower") in learnt
    verdict = "<strong>not lower: it has not learnt</strong>"
    assert figures.format("0.0310", verdict) in nothing


def test_calcium_page_lists_agatston_scores(tree):
    evaluation = {"metrics": "calcium", "bootstrap_samples": 100}
    dataset = settings(evaluation=evaluation, postprocess={"method": "calcium"})
    for name in NAMES:
        finish(tree, name, dataset)
    calcium = page_of(tree, dataset)
    assert "<h2>Calcium scores</h2>" in calcium
    assert "HU threshold alone" in calcium
    assert "<td>0.0 (0)</td>" in calcium
    for name in NAMES:
        finish(tree, name, settings())


def test_of_too_many_cases_some_are_shown_and_all_are_in_the_figures(tree, page, monkeypatch):
    monkeypatch.setattr(sample, "SHOWN_AT_MOST", 2)
    monkeypatch.setattr(sample, "chosen", lambda _: {"big", "small"})
    compare(tree.layout, NAMES, (1,), settings().evaluation, seed=0)
    report(tree.layout, settings(), seed=0, configured_by=["--config", "c.yaml"])
    short = tree.layout.report.read_text("utf-8")
    shown = re.findall(r'aria-label="Case (\w+)"', short)
    assert shown == ["big", "small", "unseen"]
    assert "3 cases are shown" in short
    assert "1 more are not shown" in short
    assert "<code>grcsf view CASE --config c.yaml --dataset tiny</code>" in short
    # every link of the first sentences leads to a case that is there
    assert set(re.findall(r'href="(#case-\d+)"', short)) <= {
        f"#case-{number}" for number in range(1, len(shown) + 1)
    }
    tables = [re.findall(r"<table.*?</table>", text, re.DOTALL) for text in (page, short)]
    assert tables[0] == tables[1]
