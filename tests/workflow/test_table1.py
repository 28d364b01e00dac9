"""Tables 1 and 2: every method and printed figure, and the whole comparison in small."""

from pathlib import Path

import pytest
import yaml

from pipeline.settings.reading import load_settings

CONFIG = Path(__file__).parents[2] / "config"
SMALL = CONFIG / "table1-small.yaml"
MODELS = ["unet", "unetpp", "deeplabv3", "swin_unet", "trans_unet", "spin", "trans_fuse", "ut_net"]
MODELS += ["sam", "grcsf"]
TABLES = {"atlas": "table-1", "lung": "table-1", "orcascore": "table-2"}
# the sums of printed columns, as checks on their typing
PRINTED = {
    "atlas": {
        "dice": 0.372 + 0.381 + 0.395 + 0.281 + 0.394 + 0.376 + 0.366 + 0.344 + 0.360 + 0.422,
        "voe": 0.818 + 0.914 + 0.485 + 0.703 + 0.871 + 1.100 + 1.448 + 0.465 + 1.089 + 0.942,
        "network_seconds": 2.42 + 3.48 + 3.36 + 3.86 + 4.31 + 3.69 + 6.21 + 4.10 + 65.33 + 4.07,
    },
    "lung": {
        "dice": 0.670 + 0.691 + 0.633 + 0.248 + 0.680 + 0.683 + 0.586 + 0.645 + 0.722 + 0.730,
        "voe": 0.528 + 0.471 + 0.525 + 0.387 + 0.689 + 0.766 + 1.071 + 0.296 + 0.307 + 0.370,
        "network_seconds": 25.62
        + 36.63
        + 37.28
        + 36.84
        + 37.23
        + 54.02
        + 65.23
        + 36.18
        + 79.50
        + 34.93,
    },
    "orcascore": {
        "pooled_f1_volume": 0.889
        + 0.921
        + 0.971
        + 0.467
        + 0.806
        + 0.851
        + 0.811
        + 0.939
        + 0.913
        + 0.885,
        "before_voe": 0.368 + 0.178 + 1.041 + 0.292 + 0.085 + 0.033 + 0.981 + 0.263 + 0.552 + 0.068,
    },
}
# GRCSF's time for a patient is printed as a whole, and in parts (section 4.4.1)
WHOLE_SECONDS = {"atlas": 25.93, "lung": 61.59}


@pytest.mark.parametrize("name", TABLES)
def test_every_method_of_the_paper_with_its_printed_figures(name):
    dataset = load_settings(CONFIG / f"{name}.yaml").datasets[name]
    table = dataset.tables[TABLES[name]]
    assert [dataset.experiments[row.experiment].model for row in table.rows] == MODELS
    for column, total in PRINTED[name].items():
        found = sum(row.published[column] for row in table.rows)
        assert found == pytest.approx(total), column
    grcsf = table.rows[-1].published
    seconds = grcsf.get("network_seconds", 0) + grcsf.get("residual_seconds", 0)
    assert seconds == pytest.approx(WHOLE_SECONDS.get(name, 0))


@pytest.mark.parametrize("name", TABLES)
def test_all_methods_train_alike_and_at_the_authors_size(name):
    experiments = load_settings(CONFIG / f"{name}.yaml").datasets[name].networks
    assert len({str(one.training) for one in experiments.values()}) == 1
    assert {one.width for one in experiments.values()} == {64}


def test_the_small_comparison_has_the_same_methods_on_both_kinds_of_phantoms():
    datasets = load_settings(SMALL).datasets
    for name, dataset in datasets.items():
        (table,) = dataset.tables.values()
        assert [dataset.experiments[row.experiment].model for row in table.rows] == MODELS
        demo = load_settings(CONFIG / "demo.yaml").datasets[name]
        assert dataset.source == demo.source


def test_the_small_comparison_is_planned_whole(project):
    plan = project.call("table1", "-n", "--configfile", str(SMALL))
    assert plan.code == 0, plan.output
    each = dict.fromkeys(
        (
            "phantom",
            "ingest",
            "split",
            "train_mae",
            "residual_maps",
            "tabulate",
            "compare",
            "report",
        ),
        2,
    )
    stages = dict.fromkeys(("predict", "postprocess", "evaluate"), 2 * len(MODELS))
    assert plan.counts == each | stages | {"train_segmentation": 2 * (len(MODELS) - 1)}


@pytest.mark.slow
def test_a_table_of_three_methods_is_made(project):
    """The cheapest two, for one epoch on few small phantoms, and SAM, prompted by one of them."""
    head = yaml.safe_load(SMALL.read_text("utf-8"))["datasets"]["head"]
    chosen = ("unet", "trans-fuse", "sam")
    head["source"]["phantom"] = {"kind": "head", "cases": 4, "seed": 2, "shape": [8, 64, 64]}
    head["split"] = {"test": 1, "validation": 1}
    head["evaluation"] |= {"baseline": "unet", "bootstrap_samples": 100}
    head["experiments"] = {name: head["experiments"][name] for name in chosen}
    sam = head["experiments"]["sam"]
    head["experiments"]["sam"] = {**sam, "prompts": "unet"}
    for name in ("unet", "trans-fuse"):
        experiment = head["experiments"][name]
        experiment["training"] = {**experiment["training"], "epochs": 1}
    table = head["tables"]["table-1"]
    table["rows"] = [row for row in table["rows"] if row["experiment"] in chosen]
    project.configure({"resources": {"threads": 1}, "datasets": {"head": head}})
    project.run("table1")
    text = (project.folder / "results/head/tabulate/table-1.md").read_text("utf-8")
    _, _, heading, _, *rows = text.splitlines()[:7]
    titles = [cell.strip() for cell in heading.strip("|").split("|")]
    labels = ("UNet", "TransFuse", "SAM, small, of random weights")
    for row, label in zip(rows, labels, strict=True):
        cells = dict(zip(titles, (cell.strip() for cell in row.strip("|").split("|")), strict=True))
        assert cells["Method"] == label
        assert cells["G MACs"] == "–" if "SAM" in label else float(cells["G MACs"]) > 0
        assert float(cells["Network, s a patient"]) > 0
        assert cells["Residual maps, s a patient"] == "–"
