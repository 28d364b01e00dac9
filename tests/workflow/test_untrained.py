"""What is planned for experiments without a training of their own."""

import pytest

SAM = {"model": "sam", "prompts": "unet++", "checkpoint": "sam.pth"}


@pytest.fixture
def rivals(project, config):
    """A project with given predictions and SAM beside one trained network."""
    (dataset,) = config["datasets"].values()
    dataset["experiments"] = {
        "unet++": {"model": "unetpp"},
        "nnunet": {"predictions": "given"},
        "sam": {**SAM},
    }
    project.configure(config, 6)
    (project.folder / "given").mkdir()
    (project.folder / "given" / "one.nii.gz").touch()
    (project.folder / "sam.pth").touch()
    return project


def planned(project, *targets):
    plan = project.call(*targets, "-n", "--configfile", "config.yaml")
    assert plan.code == 0, plan.output
    return plan


def refusal(project, *targets):
    (line,) = project.call(*targets, "-n", "--configfile", "config.yaml").errors
    return line


def test_neither_is_trained_and_sam_waits_for_the_masks_that_prompt_it(rivals):
    plan = rivals.plan()
    assert plan.counts["train_segmentation"] == 1
    assert {name: plan.counts[name] for name in ("predict", "postprocess", "evaluate")} == {
        "predict": 3,
        "postprocess": 3,
        "evaluate": 3,
    }
    alone = planned(rivals, "results/images/evaluate/sam.csv")
    assert sorted(job for job in alone.jobs if "subset" in job) == [
        "postprocess images: sam, subset 1",
        "postprocess images: unet++, subset 1",
        "predict images: sam, subset 1",
        "predict images: unet++, subset 1",
        "train_segmentation images: unet++, subset 1",
    ]
    alone = planned(rivals, "results/images/evaluate/nnunet.csv")
    assert sorted(alone.counts) == ["evaluate", "ingest", "postprocess", "predict", "split"]


def test_an_ensemble_waits_for_what_it_averages_and_trains_nothing(rivals):
    rivals.change("datasets.images.experiments.unet++.repeats", 2)
    both = {"ensemble": ["unet++", "nnunet"]}
    rivals.change("datasets.images.experiments.both", both)
    alone = planned(rivals, "results/images/evaluate/both.csv")
    assert sorted(job for job in alone.jobs if "subset" in job) == [
        "postprocess images: both, subset 1",
        "predict images: both, subset 1",
        "predict images: nnunet, subset 1",
        "predict images: unet++, subset 1",
        "predict images: unet++/repeat-2, subset 1",
        "train_segmentation images: unet++, subset 1",
        "train_segmentation images: unet++/repeat-2, subset 1",
    ]
    row = {"labels": ["Both"], "experiment": "both"}
    table = {"title": "t", "headings": ["Method"], "columns": ["dice"], "rows": [row]}
    rivals.change("datasets.images.tables", {"t": table})
    tables = planned(rivals, "ablations")
    assert "predict images: unet++/repeat-2, subset 1" in tables.jobs
    assert not any(" sam" in job for job in tables.jobs)


def test_with_folds_each_fold_is_predicted(rivals):
    rivals.change("datasets.images.split", {"folds": 3, "validation": 1})
    plan = rivals.plan()
    assert plan.counts["train_segmentation"] == 3
    for name in ("sam", "nnunet"):
        assert sum(job.startswith(f"predict images: {name}, ") for job in plan.jobs) == 3


def test_a_table_of_sam_alone_asks_for_what_prompts_it(rivals):
    row = {"labels": ["SAM"], "experiment": "sam"}
    table = {"title": "t", "headings": ["Method"], "columns": ["dice"], "rows": [row]}
    rivals.change("datasets.images.tables", {"t": table})
    plan = planned(rivals, "ablations")
    assert "train_segmentation images: unet++, subset 1" in plan.jobs
    assert not any("nnunet" in job for job in plan.jobs)


def test_what_cannot_be_predicted_is_one_line_before_any_job(rivals):
    (rivals.folder / "sam.pth").unlink()
    key = "error: datasets.images.experiments.sam.checkpoint: "
    assert refusal(rivals).startswith(f"{key}sam.pth: sam.pth: not there; expected sam_vit_h_4b8")
    rivals.change("datasets.images.experiments.sam.checkpoint", None)
    assert refusal(rivals).startswith(f"{key}not given, and SAM has weights that are not trained")
    rivals.change("datasets.images.experiments.sam", None)
    rivals.change("datasets.images.experiments.nnunet.predictions", "away")
    key = "error: datasets.images.experiments.nnunet.predictions: "
    assert refusal(rivals).startswith(f"{key}away: found nothing there, expected a folder with")


def test_a_training_of_one_is_refused(rivals):
    target = "results/images/train_segmentation/{}/subset-1.json"
    assert refusal(rivals, target.format("sam")) == (
        "error: experiments.sam: found SAM, whose weights are given, expected a network that is "
        "trained here, to train it"
    )
    assert "found given predictions" in refusal(rivals, target.format("nnunet"))
