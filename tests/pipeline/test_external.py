"""External data sets: read in their own way, never learnt from, scored and compared apart."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.compare import compare
from pipeline.datasets import ListingError, list_cases
from pipeline.datasets.subsets import split_cases
from pipeline.errors import PipelineError
from pipeline.evaluate import evaluate
from pipeline.evaluation.report_parts import data_summary, group_table
from pipeline.evaluation.score_files import read_scores, read_summary
from pipeline.ingest import ingest
from pipeline.planning.preflight import check_split, check_units
from pipeline.planning.sizes import case_sizes, stores_needed
from pipeline.postprocess import postprocess
from pipeline.predict import predict
from pipeline.settings import (
    EnsembleExperiment,
    Evaluation,
    FurtherImage,
    Postprocess,
    Settings,
    further_images,
)
from pipeline.split import split
from pipeline.storage.files import read_json, write_json
from pipeline.storage.images.geometry import Geometry
from pipeline.storage.images.volumes import write_volume
from pipeline.storage.layout import Layout
from pipeline.storage.roles import external_test_cases, subset_of_cases
from pipeline.storage.zarr_store import open_store, read_array
from tests.pipeline.results import RESOURCES, SLICES, ResultsTree

SHAPE = (3, 16, 16)
UPRIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
GRID = Geometry(SHAPE, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), UPRIGHT)
VOXEL = Evaluation(baseline="unetpp", bootstrap_samples=100)


def write_images(folder, names, seed, value=1, unlabelled=()):
    """A manifest of cases with a lesion of this label value, and the others without label."""
    folder.mkdir()
    lines = ["case,image,label,role"]
    random = np.random.default_rng(seed)
    for name in names:
        write_volume(folder / f"{name}.nii.gz", random.integers(1, 99, SHAPE, np.int16), GRID)
        label = np.zeros(SHAPE, np.uint8)
        label[1, 4:8, 4:8] = value
        write_volume(folder / f"{name}-label.nii.gz", label, GRID)
        mask = "" if name in unlabelled else f"{name}-label.nii.gz"
        lines.append(f"{name},{name}.nii.gz,{mask},")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


def configured(tmp_path):
    """A data set and an external one, whose lesions have label value 2."""
    source = {"adapter": "manifest", "root": str(write_images(tmp_path / "own", "abcde", 1))}
    elsewhere = write_images(tmp_path / "elsewhere", "abu", 2, value=2, unlabelled="u")
    dataset = {
        "source": {**source, "modality": "MR"},
        "external": {"hosp": {"adapter": "manifest", "root": str(elsewhere), "foreground": [2]}},
        "slices": {"size": [32, 32], "percentiles": [0, 100]},
        "split": {"test": 1, "validation": 1},
        "experiments": {"unetpp": {"model": "unetpp"}},
    }
    return Settings.model_validate({"results": str(tmp_path / "r"), "datasets": {"d": dataset}})


@pytest.fixture
def settings(tmp_path):
    return configured(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Both, ingested and split."""
    layout, dataset = ingested(configured(tmp_path_factory.mktemp("whole")))
    split(layout, dataset.split, 1)
    return layout, dataset


def ingested(settings):
    layout, dataset = Layout(Path(settings.results), "d"), settings.datasets["d"]
    root = Path(dataset.source.root)
    ingest(layout, dataset.source, root, further_images(settings, "d"), threads=1)
    return layout, dataset


def test_cases_are_read_by_their_own_source_named_after_their_set_and_in_no_subset(whole):
    layout, dataset = whole
    cases = read_json(layout.cases)["cases"]
    assert sorted(cases) == [*"abcde", "hosp-a", "hosp-b", "hosp-u"]
    assert {cases[f"hosp-{name}"]["role"] for name in "abu"} == {"external/hosp"}
    label = read_array(open_store(layout.case_store("hosp-a")), "label")
    assert set(np.unique(label)) == {0, 2}, "its own foreground was taken"
    assert open_store(layout.case_store("hosp-a")).attrs["modality"] == "MR", "as ours"
    divided = read_json(layout.split)
    assert divided["external"] == {"hosp": ["hosp-a", "hosp-b"]}
    assert divided["unlabelled"] == ["hosp-u"], "predicted, and not scored"
    roles = divided["subsets"]["1"].values()
    assert sorted(case for names in roles for case in names) == [*"abcde"]
    assert external_test_cases(layout, (1,)) == [(1, "hosp-a"), (1, "hosp-b")]
    assert set(subset_of_cases(layout, (1,))) == set(cases), "maps are due for all"
    ours = {name: case for name, case in cases.items() if not name.startswith("hosp")}
    assert split_cases(ours, dataset.split, 1) == [divided["subsets"]["1"]], "they move nobody"


def test_an_image_that_networks_learn_from_is_no_external_case(settings, tmp_path):
    image = tmp_path / "own" / "c.nii.gz"
    (tmp_path / "elsewhere" / "b.nii.gz").write_bytes(image.read_bytes())
    with pytest.raises(PipelineError, match=r"case hosp-b: an external case with the voxels of c"):
        ingested(settings)


def test_faults_of_the_listing_name_the_external_case(settings, tmp_path):
    with (tmp_path / "elsewhere" / "manifest.csv").open("a") as file:
        file.write("a,a.nii.gz,a-label.nii.gz,\n")
    source = settings.datasets["d"].source
    with pytest.raises(ListingError, match=r"case hosp-a: .*the same case more than once"):
        list_cases("manifest", Path(source.root), further_images(settings, "d"))
    gone = [FurtherImage(tmp_path / "gone", "external/hosp", source)]
    with pytest.raises(PipelineError, match=r"external.hosp: .*gone.*not there"):
        list_cases("manifest", Path(source.root), gone)


def test_before_any_job_a_set_without_reference_or_of_other_units_is_refused(settings):
    dataset = settings.datasets["d"]
    root, further = Path(dataset.source.root), further_images(settings, "d")
    files = list_cases("manifest", root, further)
    check_split(dataset, files, 1)
    unlabelled = [case for case in files if case.case not in ("hosp-a", "hosp-b")]
    with pytest.raises(PipelineError, match=r"external.hosp: found no reference among 1 cases"):
        check_split(dataset, unlabelled, 1)
    calcium = {"evaluation": Evaluation(metrics="calcium")}
    ours = dataset.source.model_copy(update={"modality": "CT"})
    theirs = dataset.external["hosp"].model_copy(update={"modality": "MR"})
    mixed = dataset.model_copy(update={**calcium, "source": ours, "external": {"hosp": theirs}})
    with pytest.raises(PipelineError, match=r"and MR for case hosp-a, expected CT"):
        check_units(mixed, files)
    sizes = case_sizes(files, "manifest", dataset.slices)
    fewer = [case for case in sizes if not case.case.startswith("hosp")]
    whole, own = stores_needed(dataset, sizes), stores_needed(dataset, fewer)
    voxels = np.prod(SHAPE)
    # one of five is tested; of the set all three are predicted
    assert whole["predictions"] == pytest.approx(own["predictions"] * 4, abs=0.01 * voxels)


@pytest.fixture(scope="module")
def scored(tmp_path_factory, box):
    """Two methods in two subsets; both subsets' networks have predicted two external cases."""
    tree = ResultsTree(tmp_path_factory.mktemp("external"))
    lesion = box(SHAPE, (1, 2), (4, 8), (4, 12))
    for case in ("a", "b", "hosp-x", "hosp-y"):
        role = "external/hosp" if "-" in case else ""
        tree.add_case(case, np.zeros(SHAPE, np.int16), lesion.astype(np.uint8), role=role)
    tree.write_split([["a"], ["b"]])
    external = {"hosp": ["hosp-x", "hosp-y"]}
    write_json(tree.layout.split, {**read_json(tree.layout.split), "external": external})
    # columns of the lesion that are found, of 8, by method and subset
    for name, columns in {"unetpp": (2, 4), "grcsf": (4, 8)}.items():
        for subset, found in enumerate(columns, start=1):
            mask = box(SHAPE, (1, 2), (4, 8), (4, 4 + found)) * 1.0
            cases = ["ab"[subset - 1], "hosp-x", "hosp-y"]
            tree.add_predictions(name, subset, dict.fromkeys(cases, mask))
            tree.add_model(name, subset, 10)
            postprocess(tree.layout, name, subset, Postprocess())
        evaluate(tree.layout, name, (1, 2), VOXEL, Postprocess(), seed=0, threads=1)
    return tree.layout


def dice(*found):
    return np.mean([2 * columns / (columns + 8) for columns in found])


def test_scores_stand_in_rows_of_their_own_and_enter_no_mean_of_ours(scored):
    rows = pd.read_csv(scored.scores("grcsf"), keep_default_na=False)
    assert list(zip(rows["case"], rows["subset"], rows["external"], strict=True)) == [
        ("a", 1, ""),
        ("b", 2, ""),
        *((case, subset, "hosp") for subset in (1, 2) for case in ("hosp-x", "hosp-y")),
    ]
    summary = read_json(scored.summary("grcsf"))
    assert summary["patients"] == 2
    assert summary["scores"]["dice"]["mean"] == pytest.approx(dice(4, 8))
    own = read_scores(scored, "grcsf", (1, 2))
    assert list(own.index) == ["a", "b"]
    assert "external" not in own
    assert list(read_scores(scored, "grcsf", (2,)).index) == ["b"]


def test_an_external_patient_s_score_is_the_mean_over_the_networks(scored):
    theirs = read_summary(scored, "grcsf", VOXEL, 0, (1, 2), "hosp")
    assert (theirs["patients"], theirs["repeats"], theirs["subsets"]) == (2, 2, [1, 2])
    assert theirs["scores"]["dice"]["mean"] == pytest.approx(dice(4, 8))
    assert theirs["scores"]["dice"]["by_repeat"] == pytest.approx({"1": dice(4), "2": dice(8)})
    patients = read_scores(scored, "grcsf", (1, 2), external="hosp")
    assert patients["dice"].to_dict() == pytest.approx({"hosp-x": dice(4, 8), "hosp-y": dice(4, 8)})
    shown = read_scores(scored, "grcsf", (1, 2), repeat=1, external="hosp")
    assert shown["dice"].to_list() == pytest.approx([dice(4)] * 2), "the first subset's network"
    anew = read_summary(scored, "grcsf", VOXEL, 0, (2,), "hosp")
    assert anew["scores"]["dice"]["mean"] == pytest.approx(dice(8))
    with pytest.raises(PipelineError, match="no patient of the external data set clinic"):
        read_scores(scored, "grcsf", (1, 2), external="clinic")


def test_every_subset_predicts_them(scored):
    both = EnsembleExperiment(ensemble=("unetpp", "grcsf"))
    for subset, own in ((1, "a"), (2, "b")):
        members = [(name, subset) for name in both.ensemble]
        predict(scored, "both", subset, both, 0, SLICES, RESOURCES, members=members)
        assert list(read_json(scored.predictions("both", subset))["cases"]) == [
            own,
            "hosp-x",
            "hosp-y",
        ]


def test_the_comparison_has_rows_and_tests_of_each_set(scored):
    compare(scored, ["unetpp", "grcsf"], (1, 2), VOXEL, seed=0)
    text = scored.table(".md").read_text("utf-8")
    cells = [[cell.strip() for cell in row.split("|")[1:3]] for row in text.splitlines()[4:8]]
    assert cells == [
        ["internal", "unetpp"],
        ["internal", "grcsf"],
        ["hosp", "unetpp"],
        ["hosp", "grcsf"],
    ]
    numbers = pd.read_csv(scored.table(".csv"), keep_default_na=False)
    assert numbers["external"].to_list() == ["", "", "hosp", "hosp"]
    differences = numbers["dice_difference"].astype(float)
    assert differences[3] == pytest.approx(dice(4, 8) - dice(2, 4))
    assert "External data set hosp: 2 patients, from which nothing was learned" in text
    assert "the networks of all 2 subsets or folds" in text
    assert "hosp: grcsf − unetpp, Dice: +" in text


def test_the_report_counts_them_apart(whole):
    layout, dataset = whole
    cases = read_json(layout.cases)
    told = data_summary(dataset, cases["cases"], 0)
    assert told.startswith("5 cases: 5 with a reference, 0 without, 3 of external hosp")
    grouped = {
        name: {**case, "group": case["role"] or "ours"} for name, case in cases["cases"].items()
    }
    assert [row[0] for row in group_table(read_json(layout.split), grouped).rows] == ["ours"]
