"""The evidence's table and figure, from small made-up scores with numbers computed by hand."""

import math

import pandas as pd
import pytest
import yaml
from evidence import write_evidence
from evidence_figure import Line, Point, draw_curves
from evidence_table import Scored, build_table, recommended_against_others, told_auc
from matplotlib.figure import Figure

from grcsf.statistics import holm
from pipeline.errors import PipelineError
from pipeline.evaluation.summary import VOXEL, summarise
from pipeline.settings.reading import load_settings
from pipeline.storage.files import write_json
from pipeline.storage.layout import Layout

CASES = [f"c{number}" for number in range(1, 9)]
# Dice of each patient; each repeat, of those that are repeated, is this and so much more
BASE = {
    "unetpp": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8],
    # all but the last better: differences 0.01 … 0.07, then −0.08
    "paper": [0.11, 0.22, 0.33, 0.44, 0.55, 0.66, 0.77, 0.72],
    # all better: 0.05 each over UNet++
    "recommended": [0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85],
}
STEPS = (-0.01, 0.0, 0.04)  # mean 0.01, sd sqrt(0.0007)


def config(tmp_path, *, folds=None, labelled=(4, None)):
    """A configuration of three methods on these numbers of labelled cases."""
    experiments = {}
    for number in labelled:
        fewer = {"labelled_cases": number, "repeats": 3} if number else {}
        suffix = "" if len(labelled) == 1 else f"_{number or 'all'}"
        experiments[f"unetpp{suffix}"] = {"model": "unetpp", **fewer}
        maps = {"model": "grcsf", "residuals": "maps", **fewer}
        experiments[f"paper{suffix}"] = maps
        experiments[f"recommended{suffix}"] = maps
    dataset = {
        "source": {"adapter": "atlas", "root": "images"},
        "slices": {"size": [64, 64], "percentiles": [0, 99.9]},
        "split": {"folds": folds} if folds else {"test": 8},
        "mae": {"m": {"preset": "tiny", "image_size": 64, "patch_size": 8}},
        "residuals": {
            "maps": {
                "preset": "fast",
                "difference": "signed",
                "maps": [{"mae": "m", "mask_ratio": 0.5}, {"mae": "m", "mask_ratio": 0.75}],
            }
        },
        "experiments": experiments,
        "evaluation": {"baseline": next(iter(experiments)), "bootstrap_samples": 200},
    }
    given = {"results": str(tmp_path / "results"), "datasets": {"tiny": dataset}}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(given, sort_keys=False), "utf-8")
    return path


def write_results(path):
    """The files of split and evaluate that the configuration's run would have left."""
    settings = load_settings(path)
    dataset = settings.datasets["tiny"]
    layout = Layout(path.parent / "results", "tiny")
    folds = dataset.split.folds
    learning = {"train": [f"t{n}" for n in range(6)], "validation": ["v0", "v1"]}
    tested = [CASES[k::folds] for k in range(folds)] if folds else [CASES]
    subsets = {str(k): {**learning, "test": names} for k, names in enumerate(tested, start=1)}
    write_json(layout.split, {"subsets": subsets, **({"folds": folds} if folds else {})})
    write_json(layout.cases, {"cases": {case: {"labelled": True} for case in CASES}})
    of = {case: int(number) for number, part in subsets.items() for case in part["test"]}
    for name, experiment in dataset.experiments.items():
        steps = STEPS if experiment.repeats > 1 else (0.0,)
        rows = [
            row(case, of[case], dice + step, repeat if len(steps) > 1 else None)
            for repeat, step in enumerate(steps, start=1)
            for case, dice in zip(CASES, BASE[name.split("_")[0]], strict=True)
        ]
        summary = summarise(
            rows, dataset.evaluation, settings.seed, threshold_hu=0, folds=bool(folds)
        )
        layout.scores(name).parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows).to_csv(layout.scores(name), index=False)
        write_json(layout.summary(name), summary)


def row(case, subset, dice, repeat):
    scores = dict.fromkeys([*VOXEL, *(f"raw_{name}" for name in VOXEL)], dice)
    lesions = dict.fromkeys(["lesion_f1", "lesion_count_difference", "volume_difference_mm3"], 0.0)
    group = "R1" if case < "c5" else "R2"
    repeated = {} if repeat is None else {"repeat": repeat}
    return {
        **{"case": case, "subset": subset, **repeated, "group": group, "reference_voxels": 9},
        **scores,
        **lesions,
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder of an evidence of three methods on 4 and on all 8 labelled cases."""
    path = config(tmp_path_factory.mktemp("evidence"))
    write_results(path)
    write_evidence(path, None, path.parent / "shown")
    return path.parent / "shown"


@pytest.fixture
def numbers(written):
    return pd.read_csv(written / "tiny.csv", index_col="experiment")


def test_rows_go_from_few_labelled_cases_to_many_with_the_methods_in_order(written, numbers):
    methods = ["unetpp", "paper", "recommended"]
    assert list(numbers.index) == [f"{m}_{n}" for n in (4, "all") for m in methods]
    assert numbers["method"].tolist() == methods * 2
    # a quarter validates, of 4 as of 8
    assert numbers["training"].tolist() == [3] * 3 + [6] * 3
    assert numbers["labelled_cases"].tolist() == [4] * 3 + [8] * 3
    text = (written / "tiny.md").read_text("utf-8")
    assert "| 4 (3 + 1) " in text
    assert " GRCSF as printed | " in text


def test_means_and_their_spread_over_repeats_are_those_computed_by_hand(written, numbers):
    few, alone = numbers.loc["unetpp_4"], numbers.loc["unetpp_all"]
    assert few["dice"] == pytest.approx(0.45 + 0.01)
    assert few["dice_sd"] == pytest.approx(math.sqrt((0.02**2 + 0.01**2 + 0.03**2) / 2))
    assert (few["repeats"], alone["repeats"]) == (3, 1)
    assert alone["dice"] == pytest.approx(0.45)
    assert math.isnan(alone["dice_sd"])
    assert few["dice_low"] < few["dice"] < few["dice_high"]
    text = (written / "tiny.md").read_text("utf-8")
    assert "| 0.460 ± 0.026 [0." in text
    assert "8 test patients of 2 groups" in text
    assert "3 on 4 labelled cases, 1 on 8 labelled cases" in text


def test_differences_are_patient_by_patient_to_the_same_number_of_labelled_cases(numbers):
    for number in (4, "all"):
        # (0.01 + … + 0.07 − 0.08) / 8
        paper = numbers.loc[f"paper_{number}"]
        assert paper["difference"] == pytest.approx(0.20 / 8)
        assert -0.08 < paper["difference_low"] < 0.025 < paper["difference_high"] < 0.07
        assert numbers.loc[f"recommended_{number}", "difference"] == pytest.approx(0.05)
        assert math.isnan(numbers.loc[f"unetpp_{number}", "difference"])


def scored(method, labelled, dice):
    frame = pd.DataFrame({"dice": dice, "subset": 1, "group": ""}, index=CASES)
    summary = {"mean": 0.5, "low": 0.4, "high": 0.6, "undefined": 0}
    name = f"{method}_{labelled}"
    return Scored(name, method, labelled - 1, 1, None, frame, summary, "patients")


def test_the_recommended_method_is_tested_against_each_other_one_with_holm_over_all():
    # pairs without difference drop out
    best = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2]
    below = [value - 0.01 * (index + 1) for index, value in enumerate(best)]
    six = [*below[:6], *best[6:]]
    rows = [scored("unetpp", 4, below), scored("paper", 4, six), scored("recommended", 4, best)]
    rows += [scored("unetpp", 8, best), scored("recommended", 8, best), scored("paper", 9, best)]
    tests = recommended_against_others(rows)
    # all pairs of one sign: 2 / 2^n; none differs: 1; nothing to compare 9 cases with
    assert {name: test["p"] for name, test in tests.items()} == {
        "unetpp_4": pytest.approx(2 / 2**8),
        "paper_4": pytest.approx(2 / 2**6),
        "unetpp_8": 1,
    }
    holm_by_hand = {"unetpp_4": 3 * 2 / 2**8, "paper_4": 2 * 2 / 2**6, "unetpp_8": 1}
    assert {name: test["p_holm"] for name, test in tests.items()} == pytest.approx(holm_by_hand)


def test_the_table_has_the_corrected_p_beside_the_method_that_is_tested(numbers):
    raw = numbers["p"].dropna()
    assert list(raw.index) == ["unetpp_4", "paper_4", "unetpp_all", "paper_all"]
    # all 8 patients better by the same
    assert raw["unetpp_all"] == pytest.approx(2 / 2**8)
    assert numbers.loc[raw.index, "p_holm"].tolist() == pytest.approx(holm(raw.tolist()).tolist())


def test_maps_are_told_as_the_report_tells_them(tmp_path):
    dataset = load_settings(config(tmp_path, labelled=(None,))).datasets["tiny"]
    half, more = dataset.residuals["maps"].titles
    contrasts = {"maps": {half: 0.25, more: 0.625, "the image itself": 0.5}}
    rows = [scored("unetpp", 8, BASE["unetpp"])]
    rows.append(scored("recommended", 8, BASE["recommended"])._replace(residuals="maps"))
    table = build_table(rows, dataset, contrasts, seed=0)
    assert [cells[4] for cells in table.rows] == ["–", "0.750 darker, 0.625"]
    assert table.numbers[1][f"auc, {half}"] == 0.25
    assert "The image itself has 0.500." in " ".join(table.notes)
    assert told_auc(0.25, signed=False) == "0.250"
    assert told_auc(math.nan, signed=True) == "–"


def test_the_figure_is_drawn_as_svg_and_png_and_is_the_same_each_time(written, tmp_path):
    pages = {path.suffix: path.read_bytes() for path in written.iterdir()}
    assert sorted(pages) == [".csv", ".md", ".png", ".svg"]
    write_evidence(written.parent / "config.yaml", "tiny", tmp_path)
    assert {path.suffix: path.read_bytes() for path in tmp_path.iterdir()} == pages


def test_curves_stand_side_by_side_over_the_numbers_of_cases_and_show_each_repeat():
    panel = Figure().subplots()
    few, many = Point(16, 4, 0.3, 0.2, 0.5, [0.29, 0.31]), Point(123, 31, 0.6, None, None, [])
    draw_curves(panel, [Line("UNet++", [few, many]), Line("GRCSF", [few, many])])
    assert panel.get_xscale() == "log"
    assert [tick.get_text() for tick in panel.get_xticklabels()] == ["20\n16 + 4", "154\n123 + 31"]
    (first, bars), (second, _) = ((drawn[0], drawn[2][0]) for drawn in panel.containers)
    assert all(first.get_xdata() < second.get_xdata())
    assert [segment[:, 1].tolist() for segment in bars.get_segments()] == [
        pytest.approx([0.2, 0.5]),  # the interval; none where it is not defined
        pytest.approx([0.6, 0.6]),
    ]
    dots = [line.get_ydata().tolist() for line in panel.lines if line.get_marker() == "."]
    assert dots == [[0.29, 0.31], [], [0.29, 0.31], []]


def test_of_folds_every_patient_counts_once_and_one_number_of_cases_makes_dots(tmp_path):
    path = config(tmp_path, folds=2, labelled=(None,))
    write_results(path)
    page = write_evidence(path, None, tmp_path / "shown").read_text("utf-8")
    assert "each tested once in 2 folds" in page
    numbers = pd.read_csv(tmp_path / "shown" / "tiny.csv", index_col="experiment")
    assert list(numbers.index) == ["unetpp", "paper", "recommended"] == numbers["method"].tolist()
    assert numbers.loc["paper", "difference"] == pytest.approx(0.20 / 8)
    assert numbers.loc["unetpp", "p_holm"] == pytest.approx(2 * 2 / 2**8)


def test_what_is_not_there_is_told_in_one_line(tmp_path):
    path = config(tmp_path)
    with pytest.raises(PipelineError, match=r"--dataset: found 'brain', expected one of tiny"):
        write_evidence(path, "brain", tmp_path)
    write_results(path)
    scores = Layout(tmp_path / "results", "tiny").scores("paper_4")
    scores.write_text("".join(scores.read_text("utf-8").splitlines(keepends=True)[:2]), "utf-8")
    with pytest.raises(PipelineError, match=r"paper_4\.csv: found other patients than of"):
        write_evidence(path, None, tmp_path)
