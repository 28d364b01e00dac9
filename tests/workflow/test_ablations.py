"""The paper's ablations as one configuration: all rows, and what rows share is made once."""

import re
from pathlib import Path

import pytest
import yaml

from pipeline.settings.reading import load_settings

CONFIG = Path(__file__).parents[2] / "config" / "ablations.yaml"
ROOT = ["--config", "datasets={atlas: {source: {root: images}}}"]
# Tables 3 to 7: rows, and the sum of the printed Dice scores as a check on their typing.
PRINTED = {
    "table-3": (4, 0.381 + 0.394 + 0.408 + 0.422),
    "table-4": (6, 0.520 + 0.554 + 0.534 + 0.550 + 0.581 + 0.573),
    "table-5": (5, 0.537 + 0.574 + 0.541 + 0.531 + 0.581),
    "table-6": (5, 0.500 + 0.482 + 0.480 + 0.553 + 0.581),
    "table-7": (
        12,
        0.476 + 0.553 + 0.547 + 0.529 + 0.581 + 0.490 + 0.521 + 0.526 + 0.534 + 0.517 + 0.472
        + 0.581,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def atlas():
    return load_settings(CONFIG).datasets["atlas"]


@pytest.mark.parametrize("name", PRINTED)
def test_every_row_of_the_paper_with_its_printed_figures(atlas, name):
    rows, dice = PRINTED[name]
    table = atlas.tables[name]
    assert len(table.rows) == rows
    assert sum(row.published["dice"] for row in table.rows) == pytest.approx(dice)
    assert all(set(row.published) == set(table.columns) for row in table.rows)


def test_table_3_is_of_four_subsets_the_others_of_one(atlas):
    for name, table in atlas.tables.items():
        subsets = atlas.subsets_of(*(row.experiment for row in table.rows))
        assert subsets == ((1, 2, 3, 4) if name == "table-3" else (1,))


def test_all_experiments_but_what_grad_cam_looks_at_stand_in_a_table(atlas):
    shown = {row.experiment for table in atlas.tables.values() for row in table.rows}
    assert set(atlas.experiments) - shown == {"unet"}


def test_settings_are_those_of_the_paper_s_experiment(atlas):
    paper = load_settings(CONFIG.with_name("atlas.yaml")).datasets["atlas"]
    for part in ("slices", "split", "postprocess", "evaluation"):
        assert getattr(atlas, part) == getattr(paper, part)
    for kind, least in (("mae", 2), ("residuals", 1), ("experiments", 3)):
        ours, theirs = getattr(atlas, kind), getattr(paper, kind)
        shared = ours.keys() & theirs.keys()
        assert len(shared) == least
        for name in shared:
            plain = [one[name].model_dump(exclude={"subsets"}) for one in (ours, theirs)]
            assert plain[0] == plain[1], name
    assert len({str(experiment.training) for experiment in atlas.experiments.values()}) == 1


def test_the_plan_holds_each_mae_and_each_residual_set_once(project):
    config = yaml.safe_load(CONFIG.read_text("utf-8"))
    project.configure(config, 40)
    config = config["datasets"]["atlas"]
    plan = project.call("ablations", "-n", "--configfile", str(CONFIG), *ROOT)
    assert plan.code == 0, plan.output
    assert plan.counts["tabulate"] == len(PRINTED)
    for stage, kind in (("train_mae", "mae"), ("residual_maps", "residuals")):
        jobs = [job for job in plan.jobs if job.startswith(f"{stage} ")]
        assert len(set(jobs)) == len(jobs)
        named = sorted(re.sub(r"^.*?: |, batch.*$", "", job) for job in jobs)
        assert named == sorted(config[kind])
    subsets = sum(
        len(known.get("subsets", (1, 2, 3, 4))) for known in config["experiments"].values()
    )
    assert plan.counts["train_segmentation"] == subsets
    # what Grad-CAM looks at is trained, and in no table
    assert plan.counts["predict"] == subsets - 1
