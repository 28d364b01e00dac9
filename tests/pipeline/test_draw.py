"""The paper's figures from finished results: what they show and say, and what they cannot have."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.image import imread

from pipeline.draw import FIGURES, draw
from pipeline.errors import PipelineError
from pipeline.evaluate import evaluate
from pipeline.evaluation.figures import guidance, reconstructions
from pipeline.evaluation.figures.contents import figure_faults, figures_of
from pipeline.evaluation.figures.journal import journal_style
from pipeline.postprocess import postprocess
from pipeline.settings import Dataset
from pipeline.storage.zarr_store import open_store, read_array, write_store
from tests.pipeline.results import MAE, RESIDUALS, ResultsTree, copy_results
from tests.pipeline.sheets import cut_texts

SEED = 5  # of the trained MAE and its maps
CASES = ("d", "e")  # tested, and without reference
SETTINGS = {
    "source": {"adapter": "nnunet", "root": "somewhere"},
    "slices": {"size": (32, 32), "window": (0, 150)},
    "mae": {"shared": MAE},
    "residuals": {"mrm": RESIDUALS, "cam": {"grad_cam": "unet"}},
    "experiments": {
        "unet": {"model": "unet"},
        "grcsf": {"model": "grcsf", "residuals": "mrm", "rcu": {"patch_sizes": (4, 4, 8)}},
        "with-cam": {"model": "grcsf", "residuals": "cam", "rcu": {"patch_sizes": (4, 4, 8)}},
        "given": {"predictions": "elsewhere"},
    },
    "postprocess": {"method": "components", "min_volume_mm3": 2},  # a voxel has 1.92
    "evaluation": {"baseline": "unet", "bootstrap_samples": 100},
}
CALCIUM = {"method": "calcium"}  # after which figures show the masks, and before it


def settings(**over):
    return Dataset.model_validate({**SETTINGS, **over})


@pytest.fixture(scope="module")
def layout(residuals_once, tmp_path_factory):
    """Masks and scores of four experiments; the given one lacks the case without reference.

    Every mask has one voxel more before post-processing than after it.
    """
    layout = copy_results(residuals_once, tmp_path_factory.mktemp("drawn"))
    tree, dataset = ResultsTree(layout.root), settings()
    tree.layout = layout
    lesion = read_array(open_store(layout.case_store("d")), "label") > 0
    for case in CASES:
        maps = np.random.default_rng(0).random((1, 6, 32, 32)).astype(np.float16)
        store = layout.residual_store("cam", case)
        write_store(store, {"residual": maps}, {"fingerprint": case}, slice_axis=1)
    for shift, name in enumerate(dataset.experiments):
        predicted = {case: np.roll(lesion * 0.9, shift, axis=2) for case in CASES}
        for probability in predicted.values():
            probability[5, 0, 0] = 0.9  # which post-processing drops
        if name == "given":
            del predicted["e"]
        tree.add_predictions(name, 1, predicted)
        postprocess(layout, name, 1, dataset.postprocess)
        evaluate(layout, name, (1,), dataset.evaluation, dataset.postprocess, seed=0, threads=1)
    return layout


def drawn(layout, figure, dataset):
    draw(layout, figure, dataset, SEED)
    caption, *files = (layout.figure(figure, end) for end in (".md", ".svg", ".pdf", ".png"))
    text = re.findall(r"<text[^>]*>([^<]*)</text>", files[0].read_text("utf-8"))
    content = b"".join(file.read_bytes() for file in (caption, *files))
    return SimpleNamespace(caption=caption.read_text("utf-8"), text=text, content=content)


def test_a_figure_for_each_name_that_a_data_set_can_have():
    assert list(FIGURES) == list(figure_faults(settings())) == figures_of(settings())


@pytest.mark.parametrize("figure", FIGURES)
def test_each_figure_is_drawn_at_its_printed_size_and_tells_what_it_shows(layout, figure):
    made = drawn(layout, figure, settings())
    width, height = re.search(r"Printed (\d+) mm wide and (\d+) mm high", made.caption).groups()
    picture = imread(layout.figure(figure, ".png"))
    assert picture.shape[:2] == pytest.approx(
        (int(height) * 300 / 25.4, int(width) * 300 / 25.4), abs=6
    )
    assert picture[..., :3].std() > 0.05
    expected = {
        "methods": {"unet", "grcsf", "with-cam", "given", "a", "false positive"},
        "lesion-size": {"unet", "grcsf", "Dice", "(n = 1)", "all"},
        "reconstruction": {"50% masked", "75% masked", "masked input", "residual map"},
        "residual-guidance": {"unet", "grcsf", "reference"},
        "residual-sources": {"mrm 50%", "mrm 75%", "cam"},
    }[figure]
    assert expected <= set(made.text)
    if figure != "lesion-size":
        told = "**a**: case d, slice 3 of 6 (the case of median Dice over all methods; the slice"
        assert told in made.caption
        assert "Dice of the whole volume: unet 1.000, grcsf 0.8" in made.caption


@pytest.mark.parametrize("figure", FIGURES)
def test_no_text_of_a_figure_is_cut(layout, figure, monkeypatch):
    small = {"cmap": "magma", "vmin": -0.0123, "vmax": 0.0123}  # a scale of long figures
    for module in (guidance, reconstructions):
        monkeypatch.setattr(module, "map_style", lambda *_, **__: small)
    with journal_style():
        sheet, _ = FIGURES[figure][1](layout, settings(postprocess=CALCIUM), SEED)
        assert cut_texts(sheet) == []


def test_equal_results_give_equal_files(layout):
    first, second = (drawn(layout, "lesion-size", settings()) for _ in range(2))
    assert first.content == second.content


def test_chosen_cases_are_shown_also_without_reference_and_calcium_twice(layout):
    chosen = {"cases": [{"case": "e", "slice": 4}, {"case": "d"}]}
    made = drawn(layout, "methods", settings(figures=chosen, postprocess=CALCIUM))
    told = "**a**, after post-processing: case e, slice 4 of 6 (chosen in `figures.cases`);"
    assert told in made.caption
    assert "no reference" in made.caption
    assert "**d**, before post-processing: case d, slice 3 of 6" in made.caption
    assert "given (none)" in " ".join(made.text)
    # beside each case's masks, also where they are a single row
    sides = [text for text in made.text if text.endswith(" post-processing")]
    assert sides == ["after post-processing", "before post-processing"] * 2


def test_masks_before_post_processing_are_told_with_their_own_dice(layout):
    made = drawn(layout, "methods", settings(postprocess=CALCIUM))
    after, before = re.findall(r"\*\*, (\w+) post-processing: .*: unet (\S+),", made.caption)
    lesion = np.count_nonzero(read_array(open_store(layout.case_store("d")), "label"))
    assert after == ("after", "1.000")
    assert before == ("before", f"{2 * lesion / (2 * lesion + 1):.3f}")


@pytest.mark.parametrize(
    ("case", "told"),
    [
        ({"case": "dd"}, "found case dd, which is not tested .* did you mean 'd'?"),
        ({"case": "a"}, "found case a, which is not tested .* such as e, d"),
        ({"case": "d", "slice": 7}, "found slice 7 of case d, which has slices 1 to 6"),
        ({"case": "d", "slice": 1}, "found slice 1 of case d, which is empty"),
    ],
)
def test_a_case_or_slice_that_cannot_be_shown_is_one_line(layout, case, told):
    with pytest.raises(PipelineError, match=told):
        draw(layout, "reconstruction", settings(figures={"cases": [case]}), SEED)


def test_passes_of_another_seed_than_the_maps_are_refused(layout):
    with pytest.raises(PipelineError, match=r"case d: .* run residual_maps first"):
        draw(layout, "reconstruction", settings(), SEED + 1)


def test_what_a_data_set_cannot_have_is_told():
    alone = settings(experiments={"unet": {"model": "unet"}}, residuals={})
    faults = figure_faults(alone)
    assert figures_of(alone) == ["methods", "lesion-size"]
    assert faults["reconstruction"] == "no experiment has maps of an MAE"
    assert faults["residual-sources"] == "it takes two residual sets"
