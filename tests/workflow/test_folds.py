"""What is planned with folds: what each has of its own, and what serves all of them."""

import pytest

FOLDS = {"folds": 3, "validation": 1}
# two experiments in three folds; one of them uses residuals of two MAEs, in one batch
SHARED = {
    "ingest": 1,
    "split": 1,
    "train_mae": 2,
    "residual_maps": 1,
    **dict.fromkeys(("train_segmentation", "predict", "postprocess"), 6),
    "evaluate": 2,
    "compare": 1,
    "report": 1,
}


@pytest.fixture
def images(config):
    """The data set of the configuration, with folds."""
    config["datasets"]["images"]["split"] = FOLDS
    return config["datasets"]["images"]


def jobs_of(plan, *stages):
    return sorted(job for job in plan.jobs if job.split(" ")[0] in stages)


def test_each_fold_has_its_own_mae_and_maps(project, config):
    config["datasets"]["images"]["split"] = FOLDS
    project.configure(config, 7)
    plan = project.plan("-p")
    assert plan.counts == {**SHARED, "train_mae": 6, "residual_maps": 3}
    assert jobs_of(plan, "train_mae", "residual_maps") == [
        *(f"residual_maps images: mrm/fold-{fold}, batch 1of1" for fold in (1, 2, 3)),
        *(f"train_mae images: m50/fold-{fold}" for fold in (1, 2, 3)),
        *(f"train_mae images: m75/fold-{fold}" for fold in (1, 2, 3)),
    ]
    logs = [command.split()[-1] for command in plan.commands]
    assert len(set(logs)) == len(logs)
    assert (
        "images: 3 folds; MAEs m50 and m75 are trained for each of them, because their slices come "
        "from cases that are tested; residual set mrm likewise" in plan.output
    )
    # a fold alone waits for what is its own
    target = "results/images/train_segmentation/grcsf/subset-2.json"
    alone = project.call(target, "-n", "--configfile", "config.yaml")
    needed = ["residual_maps images: mrm/fold-2, batch 1of1"]
    needed += ["train_mae images: m50/fold-2", "train_mae images: m75/fold-2"]
    assert jobs_of(alone, "train_mae", "residual_maps") == needed


def test_an_mae_of_healthy_scans_serves_all_folds(project, config, images):
    for mae in images["mae"].values():
        mae["slices_of"] = "healthy"
    images["source"]["healthy"] = ["healthy"]
    project.configure(config, 7)
    (project.folder / "healthy").mkdir()
    (project.folder / "healthy" / "a.nii.gz").touch()
    (refusal,) = project.call("-n", "--configfile", "config.yaml").errors
    fault = "mae.m50.slices_of: healthy: found 1 healthy scan, expected at least 2"
    assert fault in refusal
    (project.folder / "healthy" / "b.nii.gz").touch()
    plan = project.plan()
    # nine cases are two batches of ingest; the other stages see no healthy scan
    assert plan.counts == {**SHARED, "ingest": 2 + 1}
    serving = "images: 3 folds; MAEs m50 and m75 and residual set mrm serve all 3 folds"
    assert serving in plan.output


def test_grad_cam_looks_at_each_fold_s_network_where_it_is_seen(project, config, images):
    images["residuals"]["cam"] = {"grad_cam": "unet++"}
    images["experiments"]["grcsf"] = {"model": "grcsf", "residuals": "cam", "subsets": [2, 3]}
    project.configure(config, 7)
    plan = project.plan()
    assert jobs_of(plan, "train_mae", "residual_maps") == [
        f"residual_maps images: cam/fold-{fold}, batch 1of1" for fold in (2, 3)
    ]
    chosen = [job for job in jobs_of(plan, "predict") if "grcsf" in job]
    assert chosen == [f"predict images: grcsf, subset {fold}" for fold in (2, 3)]


def test_an_encoder_is_the_fold_s_own(project, config, images):
    network = {"model": "mae_unet", "mae_encoder": {"mae": "spare"}}
    images["experiments"] = {"mae": network}
    project.configure(config, 7)
    target = "results/images/train_segmentation/mae/subset-3.json"
    plan = project.call(target, "-n", "--configfile", "config.yaml")
    assert jobs_of(plan, "train_mae") == ["train_mae images: spare/fold-3"]


def test_a_fold_that_is_not_there_is_refused(project, config):
    config["datasets"]["images"]["split"] = FOLDS
    project.configure(config, 7)
    target = "results/images/train_mae/m50/fold-4.json"
    (refusal,) = project.call("-n", target, "--configfile", "config.yaml").errors
    assert "mae has no 'm50/fold-4'; it has: m50/fold-1, m50/fold-2" in refusal
