"""What is planned, for every layout of images, without running anything."""

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ADAPTERS = ("atlas", "msd", "orcascore", "nnunet", "manifest", "dicom")
# Two experiments on one subset; one of them uses residuals of two MAEs, in one batch.
ONE_SUBSET = {
    "ingest": 1,
    "split": 1,
    "train_mae": 2,
    "residual_maps": 1,
    "train_segmentation": 2,
    "predict": 2,
    "postprocess": 2,
    "evaluate": 2,
    "compare": 1,
    "report": 1,
}


def options(command: str) -> dict[str, str]:
    """The options of a stage's command; what follows it goes to the log."""
    words = shlex.split(command.removesuffix(" 2>&1 |").partition(" 2>&1 | tee ")[0])
    assert words[:3] == ["python", "-m", "pipeline"]
    return dict(zip(words[4::2], words[5::2], strict=True))


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_jobs_of_each_stage(project, config, adapter):
    config["datasets"]["images"]["source"]["adapter"] = adapter
    project.configure(config, 6, adapter)
    plan = project.plan()
    assert plan.counts == ONE_SUBSET
    assert not any("spare" in job or "unused" in job for job in plan.jobs)


def test_jobs_grow_with_batches_and_subsets_not_with_cases(project, config):
    config["datasets"]["images"]["split"] = {"by": "group", "subsets": 4}
    project.configure(config, 33)
    four = dict.fromkeys(("train_segmentation", "predict", "postprocess"), 8)
    # the cases are stored in batches, whose manifests one job more takes over
    batches = {"ingest": 8 + 1, "residual_maps": 8}
    assert project.plan().counts == {**ONE_SUBSET, **four, **batches}
    config["datasets"]["images"]["split"] = {"by": "case"}
    project.configure(config, 64)
    plan = project.plan()
    # 13 cases are tested, which makes two batches of predictions, and of scores
    two = {"predict": 2 * 2, "postprocess": 2 * 2, "evaluate": 2 * (2 + 1)}
    assert plan.counts == {**ONE_SUBSET, **two, **batches}
    assert max(map(len, plan.output.splitlines())) < 200, "lines that nobody reads"


def test_healthy_scans_make_no_further_batch(project, config):
    config["datasets"]["images"]["source"]["healthy"] = ["healthy"]
    project.configure(config, 6)  # with them as many as a batch has
    (project.folder / "healthy").mkdir()
    for name in "ab":
        (project.folder / "healthy" / f"{name}.nii.gz").touch()
    assert project.plan().counts == ONE_SUBSET
    phantom = {"kind": "head", "cases": 8, "shape": [8, 16, 16]}
    source = {"adapter": "atlas", "phantom": phantom, "healthy": ["healthy"]}
    config["datasets"]["images"]["source"] = source
    project.configure(config)
    # ingest stores them, and no other stage sees them
    assert project.plan().counts == {**ONE_SUBSET, "phantom": 1, "ingest": 2 + 1}


def test_an_external_set_is_predicted_and_nothing_is_trained_for_it(project, config):
    images = config["datasets"]["images"]
    images["external"] = {"clinic": {"adapter": "nnunet", "root": "clinic"}}
    project.configure(config, 6)
    clinic = project.folder / "clinic"
    for folder in ("imagesTr", "labelsTr"):
        (clinic / folder).mkdir(parents=True)
    (clinic / "dataset.json").write_text(json.dumps({"channel_names": {"0": "MR"}}))
    for number in range(3):
        (clinic / "imagesTr" / f"{number}_0000.nii.gz").touch()
        (clinic / "labelsTr" / f"{number}.nii.gz").touch()
    # six cases are one batch of eight, nine are two
    two = {"ingest": 2 + 1, "residual_maps": 2}
    assert project.plan().counts == {**ONE_SUBSET, **two}
    phantom = {"kind": "head", "cases": 8, "shape": [8, 16, 16]}
    images["source"] = {"adapter": "atlas", "phantom": phantom}
    project.configure(config)
    assert project.plan().counts == {**ONE_SUBSET, "phantom": 1, **two}


def test_phantoms_are_written_first_and_batched_by_their_number(project, config):
    phantom = {"kind": "head", "cases": 6, "unlabelled": 4, "shape": [8, 16, 16]}
    config["datasets"]["images"]["source"] = {"adapter": "atlas", "phantom": phantom}
    project.configure(config)
    plan = project.plan("-p")
    assert plan.counts == {**ONE_SUBSET, "phantom": 1, "ingest": 2 + 1, "residual_maps": 2}
    (command,) = [one for one in plan.commands if " phantom " in one]
    told = "head results/images/phantom --cases 6 --seed 0 --unlabelled 4 --shape 8 16 16"
    assert command.startswith(f"python -m pipeline phantom {told} 2>&1 | tee ")


def test_one_mae_for_both_ratios_is_trained_once(project, config):
    for one in config["datasets"]["images"]["residuals"]["mrm"]["maps"]:
        one["mae"] = "m50"
    project.configure(config, 3)
    assert project.plan().counts == {**ONE_SUBSET, "train_mae": 1}


def test_the_mae_whose_encoder_a_network_has_is_trained_first(project, config):
    network = {"model": "mae_unet", "mae_encoder": {"mae": "spare", "frozen": True}}
    config["datasets"]["images"]["experiments"] = {"unet": {"model": "unet"}, "mae": network}
    project.configure(config, 3)
    plan = project.plan()
    counts = {stage: count for stage, count in ONE_SUBSET.items() if stage != "residual_maps"}
    assert plan.counts == {**counts, "train_mae": 1}
    trained = plan.jobs.index("train_mae images: spare")
    assert trained < plan.jobs.index("train_segmentation images: mae, subset 1")


def test_a_repeated_experiment_is_trained_predicted_and_cut_so_often_and_scored_once(
    project, config
):
    config["datasets"]["images"]["split"] = {"subsets": 2}
    config["datasets"]["images"]["experiments"]["grcsf"]["repeats"] = 3
    project.configure(config, 9)
    plan = project.plan("-p")
    often = dict.fromkeys(("train_segmentation", "predict", "postprocess"), 2 + 3 * 2)
    assert plan.counts == {**ONE_SUBSET, **often, "ingest": 2 + 1, "residual_maps": 2}
    trained = {job for job in plan.jobs if re.match("train_segmentation images: grcsf", job)}
    names = ("grcsf", "grcsf/repeat-2", "grcsf/repeat-3")
    assert trained == {
        f"train_segmentation images: {name}, subset {n}" for name in names for n in (1, 2)
    }
    (scores,) = [one for one in plan.commands if " evaluate " in one and "grcsf" in one]
    assert options(scores)["--experiment"] == "grcsf"
    known = "unet++, grcsf, grcsf/repeat-2, grcsf/repeat-3"
    for path, name, has in (
        ("predict/grcsf/repeat-4/subset-1.json", "grcsf/repeat-4", known),
        ("evaluate/grcsf/repeat-2.csv", "grcsf/repeat-2", "unet++, grcsf"),
    ):
        refused = project.call("-n", f"results/images/{path}", "--configfile", "config.yaml")
        said = f"error: data set images: experiments has no '{name}'; it has: {has}"
        assert refused.errors == [said]


def test_more_labelled_cases_than_a_subset_has_are_refused(project, config):
    config["datasets"]["images"]["experiments"]["grcsf"]["labelled_cases"] = 9
    project.configure(config, 6)
    (said,) = project.call("-n", "--configfile", "config.yaml").errors
    assert "experiments.grcsf.labelled_cases: found 9, expected at most 5, the training" in said


def test_without_a_configuration_the_demo_is_planned(project):
    plan = project.call("-n", "-p")
    assert plan.code == 0, plan.output
    demo = ROOT / "config" / "demo.yaml"
    datasets = yaml.safe_load(demo.read_text("utf-8"))["datasets"]
    assert all(f"report {name}" in plan.jobs for name in datasets)
    given = [options(command) for command in plan.commands if " phantom " not in command]
    assert {one["--config"] for one in given} == {str(demo)}
    assert not any("--set" in one for one in given)


def test_a_given_configuration_is_not_mixed_with_the_demo(project, config):
    project.configure(config, 3)
    plan = project.plan("-p")
    assert all(re.match(r"\w+ images", job) for job in plan.jobs)
    given = [options(command) for command in plan.commands]
    assert {one["--config"] for one in given} == {str(project.folder / "config.yaml")}


def table_of(*experiments):
    rows = [{"labels": [name], "experiment": name} for name in experiments]
    return {"title": "t", "headings": ["Method"], "columns": ["dice"], "rows": rows}


def with_table(config):
    """Two more experiments on the first of two subsets, and a table of three."""
    images = config["datasets"]["images"]
    images["split"] = {"subsets": 2}
    images["experiments"]["wide"] = {"model": "unetpp", "width": 32, "subsets": [1]}
    images["experiments"]["fast"] = {"model": "grcsf", "residuals": "mrm", "subsets": [1]}
    images["tables"] = {"parts": table_of("unet++", "fast", "grcsf")}
    return config


def test_experiments_run_on_their_own_subsets(project, config):
    project.configure(with_table(config), 9)
    plan = project.plan()
    predicted = sorted(job.partition(": ")[2] for job in plan.jobs if job.startswith("predict"))
    subsets = {"fast": (1,), "grcsf": (1, 2), "unet++": (1, 2), "wide": (1,)}
    assert predicted == [f"{name}, subset {n}" for name, ns in subsets.items() for n in ns]
    assert plan.counts["tabulate"] == 1


def test_the_tables_target_plans_their_rows_and_what_they_share_once(project, config):
    project.configure(with_table(config), 6)
    plan = project.call("ablations", "-n", "--configfile", "config.yaml")
    assert plan.code == 0, plan.output
    shared = {"ingest": 1, "split": 1, "train_mae": 2, "residual_maps": 1, "tabulate": 1}
    per_subset = dict.fromkeys(("train_segmentation", "predict", "postprocess"), 5)
    assert plan.counts == {**shared, **per_subset, "evaluate": 3}
    assert not any("wide" in job for job in plan.jobs)


def test_the_figures_target_plans_what_a_data_set_can_have_and_tells_the_rest(project, config):
    project.configure(config, 6)
    plan = project.call("figures", "-n", "--configfile", "config.yaml")
    assert plan.code == 0, plan.output
    behind = {stage: n for stage, n in ONE_SUBSET.items() if stage not in ("compare", "report")}
    assert plan.counts == {**behind, "draw": 4}
    assert "draw images: reconstruction" in plan.jobs
    assert "images: no figure residual-sources: it takes two residual sets" in plan.output


def test_grad_cam_waits_for_the_network_that_it_looks_at(project, config):
    images = config["datasets"]["images"]
    images["experiments"]["plain"] = {"model": "unet"}
    images["residuals"]["cam"] = {"grad_cam": "plain"}
    images["experiments"]["looking"] = {"model": "grcsf", "residuals": "cam"}
    images["tables"] = {"one": table_of("looking")}
    project.configure(config, 3)
    plan = project.call("ablations", "-n", "--configfile", "config.yaml")
    assert plan.code == 0, plan.output
    order = [
        "train_segmentation images: plain, subset 1",
        "residual_maps images: cam, batch 1of1",
        "train_segmentation images: looking, subset 1",
    ]
    assert [job for job in plan.jobs if job in order] == order
    assert "train_mae" not in plan.counts, "no MAE is behind these maps"
    assert "predict images: plain, subset 1" not in plan.jobs


def test_overrides_and_further_files_reach_every_command(project, config):
    project.configure(config, 3)
    more = {"seed": 5, "datasets": {"images": {"evaluation": {"bootstrap_samples": 300}}}}
    (project.folder / "more.yaml").write_text(yaml.safe_dump(more))
    plan = project.plan("more.yaml", "-p", "--config", "results=it's here", "seed=7")
    assert len(plan.commands) == sum(ONE_SUBSET.values())
    for command in plan.commands:
        given = options(command)
        assert given["--config"] == str(project.folder / "config.yaml")
        assert json.loads(given["--set"]) == {**more, "seed": 7, "results": "it's here"}


def test_jobs_of_one_kind_write_different_logs(project, config):
    config["datasets"]["images"]["split"] = {"subsets": 2}
    project.configure(config, 9)
    plan = project.plan("-p")
    logs = [shlex.split(command)[-1] for command in plan.commands]
    assert len(set(logs)) == len(logs)
    assert all(Path(log).is_relative_to("results/images/logs") for log in logs)


@pytest.mark.parametrize("profile", ["default", "slurm"])
def test_profiles_apply(project, config, profile):
    config["resources"]["gpus"] = 1
    project.configure(config, 3)
    folder = ROOT / "workflow" / "profiles" / profile
    plan = project.plan("--workflow-profile", str(folder))
    assert plan.counts == ONE_SUBSET
    settings = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
    assert settings["rerun-triggers"] == ["mtime", "params", "input"]


def test_rules_are_linted_clean(project, config):
    project.configure(config)
    linted = project.call("--lint", "--configfile", "config.yaml")
    assert linted.code == 0, linted.output
    assert "Congratulations" in linted.output
