"""A plan's figures, against figures worked out by hand and against the paper's."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.cli import app
from pipeline.datasets.configured import planned_cases
from pipeline.errors import PipelineError
from pipeline.planning.network_costs import mae_macs, network_macs
from pipeline.planning.rates import SHIPPED, load_rates
from pipeline.planning.sizes import case_sizes
from pipeline.planning.workload import TRAINED, stage_work
from pipeline.settings.reading import load_settings, validate
from pipeline.storage.images.geometry import Geometry
from pipeline.storage.images.volumes import write_volume
from pipeline.tools.plan.plan import plan

CONFIG = Path(__file__).parents[3] / "config"


def tiny(tmp_path: Path, **changes) -> dict:
    """Seven cases of ten slices: 5 train, 1 validates, 1 tests."""
    shape, lines = (10, 8, 6), []
    for index in range(7):
        grid = Geometry(shape, (1.0, 1.0, 1.0))
        write_volume(tmp_path / f"{index}.nii.gz", np.ones(shape, np.uint8), grid)
        lines.append(f"case{index},{index}.nii.gz,{index}.nii.gz")
    (tmp_path / "manifest.csv").write_text("\n".join(["case,image,label", *lines]) + "\n")
    maps = [{"mae": "mae", "mask_ratio": 0.5}, {"mae": "mae", "mask_ratio": 0.75}]
    dataset = {
        "source": {"adapter": "manifest", "root": str(tmp_path)},
        "slices": {"size": [32, 32], "percentiles": [0, 100]},
        "split": {"test": 1, "validation": 1},
        "mae": {"mae": {"preset": "tiny", "image_size": 32, "patch_size": 8, "epochs": 3}},
        "residuals": {"mrm": {"preset": "paper", "maps": maps}},
        "experiments": {
            "grcsf": {"model": "grcsf", "residuals": "mrm", "width": 4, "training": {"epochs": 2}}
        },
    }
    return {"results": str(tmp_path / "results"), "datasets": {"own": {**dataset, **changes}}}


def planned(capsys, config: Path, *options: object) -> str:
    app(["plan", str(config), *map(str, options)], standalone_mode=False)
    return capsys.readouterr().out


def written(tmp_path: Path, given: dict) -> Path:
    (tmp_path / "config.yaml").write_text(json.dumps(given))
    return tmp_path / "config.yaml"


def test_work_by_hand(tmp_path):
    settings = validate(tiny(tmp_path), "test")
    dataset = settings.datasets["own"]
    cases = case_sizes(planned_cases(settings, "own"), "manifest", dataset.slices)
    names = [one.case for one in cases]
    subsets = [{"train": names[:5], "validation": names[5:6], "test": names[6:]}]
    half, quarter = (mae_macs(dataset.mae["mae"], ratio) for ratio in (0.5, 0.75))
    network = network_macs(dataset, "grcsf")
    assert half > quarter > 0
    assert stage_work(dataset, cases, subsets, settings.resources, settings.seed) == {
        # 50 slices a training epoch at either ratio in turn, 10 validated at both
        ("train_mae", "cpu", "mae_training"): 3 * (50 * TRAINED * (half + quarter) // 2)
        + 3 * 10 * (half + quarter),
        ("residual_maps", "cpu", "mae_pass"): 70 * 5 * (half + quarter),
        ("train_segmentation", "cpu", "segmentation_training"): 2 * (50 * TRAINED + 10) * network,
        ("predict", "cpu", "segmentation_prediction"): 10 * network,
    }
    mae = dataset.mae["mae"].model_copy(update={"epochs": None, "steps": 7, "batch_size": 20})
    in_steps = dataset.model_copy(update={"mae": {"mae": mae}})
    work = stage_work(in_steps, cases, subsets, settings.resources, settings.seed)
    # three batches an epoch: seven steps see 140 slices, and are validated three times
    trained = 140 * TRAINED * (half + quarter) // 2 + 3 * 10 * (half + quarter)
    assert work["train_mae", "cpu", "mae_training"] == trained


def test_fewer_labelled_cases_shorten_a_training_and_repeats_are_as_many_of_them(tmp_path):
    given, rates = tiny(tmp_path), {"cpu": load_rates(SHIPPED, "cpu")}
    (old,) = plan(validate(given, "test"), rates)
    given["datasets"]["own"]["experiments"]["grcsf"] |= {"labelled_cases": 3, "repeats": 4}
    (new,) = plan(validate(given, "test"), rates)
    # four times two training cases and a validating one, in place of five and one
    hours = [one.stages["train_segmentation"].hours["cpu"] for one in (new, old)]
    assert hours[0] / hours[1] == pytest.approx(4 * (2 * TRAINED + 1) / (5 * TRAINED + 1))
    repeated = {stage for stage in new.stages if new.stages[stage].jobs != old.stages[stage].jobs}
    assert repeated == {"train_segmentation", "predict", "postprocess"}
    assert all(new.stages[stage].jobs == 4 for stage in repeated)
    assert new.stages["predict"].size == 4 * old.stages["predict"].size
    hours = [one.stages["predict"].hours["cpu"] for one in (new, old)]
    assert hours[0] == pytest.approx(4 * hours[1])
    given["datasets"]["own"]["experiments"]["grcsf"]["labelled_cases"] = 7
    with pytest.raises(PipelineError, match=r"grcsf\.labelled_cases: found 7, expected at most 6"):
        plan(validate(given, "test"))


def test_healthy_scans_are_ingested_and_learnt_by_the_mae_alone(tmp_path):
    (tmp_path / "healthy").mkdir()
    grid = Geometry((4, 8, 6), (1.0, 1.0, 1.0))
    write_volume(tmp_path / "healthy" / "new.nii.gz", np.ones(grid.shape, np.uint8), grid)
    given = tiny(tmp_path)
    before = validate(given, "test")
    given["datasets"]["own"]["source"]["healthy"] = [str(tmp_path / "healthy")]
    after = validate(given, "test")
    rates = {"cpu": load_rates(SHIPPED, "cpu")}
    (old,), (new,) = (plan(settings, rates) for settings in (before, after))
    assert (new.cases, new.labelled, new.slices) == (8, 7, 74)
    more = {stage for stage in new.stages if new.stages[stage] != old.stages[stage]}
    assert more == {"ingest", "train_mae"}
    # three epochs of 54 training slices in place of 50, as three passes each, and 10 at both ratios
    hours = [one.stages["train_mae"].hours["cpu"] for one in (new, old)]
    assert hours[0] / hours[1] == pytest.approx((54 * 1.5 + 10) / (50 * 1.5 + 10))


def test_folds_take_as_many_trainings_and_stores_as_there_are_folds(tmp_path, capsys):
    whole = validate(tiny(tmp_path), "test")
    given = tiny(tmp_path, split={"folds": 3, "validation": 1})
    rates = {"cpu": load_rates(SHIPPED, "cpu")}
    (once,), (folds,) = (plan(settings, rates) for settings in (whole, validate(given, "test")))
    for stage in ("train_mae", "residual_maps", "train_segmentation"):
        assert folds.stages[stage].jobs == 3 * once.stages[stage].jobs
        assert folds.stages[stage].size == 3 * once.stages[stage].size
    # every fold maps all 70 slices; of 7 cases one validates, and 3 + 2 + 2 are tested in turn
    hours = [one.stages["residual_maps"].hours["cpu"] for one in (folds, once)]
    assert hours[0] == pytest.approx(3 * hours[1])
    hours = [one.stages["train_mae"].hours["cpu"] for one in (folds, once)]
    learnt = (30 + 40 + 40) * 1.5 + 3 * 10
    assert hours[0] / hours[1] == pytest.approx(learnt / (50 * 1.5 + 10))
    hours = [one.stages["predict"].hours["cpu"] for one in (folds, once)]
    assert hours[0] == pytest.approx(7 * hours[1])
    assert folds.stages["predict"].size == pytest.approx(7 * once.stages["predict"].size, abs=7)
    out = planned(capsys, written(tmp_path, given))
    assert "own: 3 folds; MAE mae is trained for each of them" in out
    plain = json.loads(planned(capsys, written(tmp_path, tiny(tmp_path)), "--json"))
    assert "folds" not in plain["datasets"][0]


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    """The paper's configuration for 655 cases, whose files are empty."""
    root = tmp_path_factory.mktemp("atlas")
    for index in range(655):
        # unequal cohorts, of which a fifth can be taken
        name = f"sub-r{1 + int(33 * (index * 0.618 % 1) ** 1.5):03d}s{index + 1:03d}"
        stem = root / f"{name}_ses-1_space-MNI152NLin2009aSym"
        Path(f"{stem}_T1w.nii.gz").touch()
        Path(f"{stem}_label-L_desc-T1lesion_mask.nii.gz").touch()
    over = {"datasets": {"atlas": {"source": {"root": str(root)}}}}
    return load_settings(CONFIG / "atlas.yaml", over)


def test_the_paper_s_seconds_a_case_come_out_again(atlas):
    dataset = atlas.datasets["atlas"]
    two = {name: dataset.experiments[name] for name in ("unetpp", "grcsf")}
    two = dataset.model_copy(update={"experiments": two, "tables": {}})
    atlas = atlas.model_copy(update={"datasets": {"atlas": two}})
    (found,) = plan(atlas, {"cuda": load_rates(SHIPPED, "cuda")})
    assert (found.cases, found.slices, found.known) == (655, 655 * 189, 0)
    # Table 4; five passes at each ratio, every case once
    assert found.stages["residual_maps"].hours == pytest.approx(
        {"cuda": 655 * 21.86 / 3600}, rel=0.01
    )
    # 131 test cases; section 4.4.1 and, UNet++ being 105.46 of its 116.49 G
    seconds = 131 * 4.07 * (1 + 105.46 / 116.49)
    assert found.stages["predict"].hours == pytest.approx({"cuda": seconds / 3600}, rel=0.02)
    # docs/reference/stores.md: about 7 GB and 22 GB
    assert found.stages["ingest"].size == pytest.approx(7e9, rel=0.05)
    assert found.stages["residual_maps"].size == pytest.approx(22e9, rel=0.05)


PLAIN = """
import sys
from pipeline.cli import app
app(["plan", sys.argv[1]], standalone_mode=False)
assert "torch" not in sys.modules
"""


def test_without_hours_no_network_is_built(tmp_path):
    config = str(written(tmp_path, tiny(tmp_path)))
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, config], capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^\| (\w+) +\| +(\d+) \| +(.+) \|$", done.stdout, re.MULTILINE)
    cells = {stage: (int(jobs), size) for stage, jobs, size in rows}
    assert cells["train_mae"][1] == cells["train_segmentation"][1] == "–"
    assert cells["ingest"][1].endswith("kB")
    assert cells.pop("together")[0] == sum(jobs for jobs, _ in cells.values())


def test_nothing_is_trained_from_a_checkpoint_that_is_only_used(tmp_path):
    given = tiny(tmp_path)
    checkpoint = tmp_path / "mae.pth"
    given["datasets"]["own"]["mae"]["mae"] |= {"epochs": 0, "checkpoint": str(checkpoint)}
    with pytest.raises(PipelineError, match=r"checkpoint .*mae.pth: not there; correct mae.check"):
        plan(validate(given, "test"))
    checkpoint.touch()
    (found,) = plan(validate(given, "test"), {"cpu": load_rates(SHIPPED, "cpu")})
    assert found.stages["train_mae"].hours == {"cpu": 0}
    assert found.stages["residual_maps"].hours["cpu"] > 0


def test_a_training_of_one_slice_a_case_takes_as_many_slices_as_cases(tmp_path):
    def hours(**training):
        given = tiny(tmp_path)
        for experiment in given["datasets"]["own"]["experiments"].values():
            experiment["training"] = {**experiment.get("training", {}), **training}
        (found,) = plan(validate(given, "test"), {"cpu": load_rates(SHIPPED, "cpu")})
        return found.stages["train_segmentation"].hours["cpu"]

    assert hours(slice_per_case=0.95) < hours() / 2
    assert hours(slice_per_case=None, normalise="dataset") == hours()


def rates_file(path: Path, device: str = "cpu", **measured) -> Path:
    figures = {kind: {"macs": macs, "seconds": 1, "of": "test"} for kind, macs in measured.items()}
    machine = {"machine": "this", "origin": "a test", "measured": figures}
    path.write_text(json.dumps({device: machine}))
    return path


def test_own_rates_change_the_hours_and_what_is_derived_is_said(tmp_path, capsys):
    config, passes = written(tmp_path, tiny(tmp_path)), ("mae_pass", "segmentation_prediction")
    known = dict.fromkeys(passes, 1e6)
    slow = rates_file(tmp_path / "slow.json", **known)
    fast = rates_file(tmp_path / "fast.json", **known, mae_training=4e6)
    before, after = (
        json.loads(planned(capsys, config, "--rates", rates, "--json")) for rates in (slow, fast)
    )
    assert set(before["rates"]) == {"cpu"}
    assert before["rates"]["cpu"]["derived"]["mae_training"] == "mae_pass"
    slower, faster = (plans["datasets"][0]["stages"]["train_mae"] for plans in (before, after))
    assert faster["hours"]["cpu"] == pytest.approx(slower["hours"]["cpu"] / 4)


# of multiplications a second
SPEEDS = {"cpu": 1e6, "cuda": 1e9}
# by the cards of every job, of the MAE's training and of the network's: where each stage computes
DEVICES = {
    (0, None, 2): ("cpu", "cpu", "cuda"),
    (1, 0, 0): ("cuda", "cpu", "cpu"),
    (1, None, None): ("cuda", "cuda", "cuda"),
    (0, 1, None): ("cpu", "cuda", "cpu"),
}


@pytest.mark.parametrize("gpus", DEVICES)
def test_each_training_takes_the_hours_of_its_own_device(tmp_path, capsys, gpus):
    others, *own = gpus
    given = tiny(tmp_path) | {"resources": {"gpus": others}}
    dataset = given["datasets"]["own"]
    trained = dataset["mae"]["mae"], dataset["experiments"]["grcsf"]
    dataset["experiments"]["grcsf"]["training"]["batch_size"] = 2
    for training, cards in zip(trained, own, strict=True):
        training["resources"] = {} if cards is None else {"gpus": cards}
    content = {}
    for device, macs in SPEEDS.items():
        known = {"mae_pass": macs, "segmentation_prediction": macs}
        content |= json.loads(rates_file(tmp_path / "rates.json", device, **known).read_text())
    rates = tmp_path / "rates.json"
    rates.write_text(json.dumps(content))
    found = json.loads(planned(capsys, written(tmp_path, given), "--rates", rates, "--json"))
    checked = validate(given, "test").datasets["own"]
    half, quarter = (mae_macs(checked.mae["mae"], ratio) for ratio in (0.5, 0.75))
    network = network_macs(checked, "grcsf")
    other, mae, segmentation = DEVICES[gpus]
    assert list(found["rates"]) == sorted({other, mae, segmentation}, reverse=True)
    # slices of ten a case; a training step is three passes, at either ratio in turn
    macs = {
        "train_mae": (mae, 3 * (50 * 3 / 2 + 10) * (half + quarter)),
        "residual_maps": (other, 70 * 5 * (half + quarter)),
        "train_segmentation": (segmentation, 2 * (50 * 3 + 10) * network),
        "predict": (other, 10 * network),
    }
    stages = found["datasets"][0]["stages"]
    due = {
        stage: {device: pytest.approx(count / SPEEDS[device] / 3600)}
        for stage, (device, count) in macs.items()
    }
    assert {stage: one["hours"] for stage, one in stages.items() if one["hours"]} == due
    totals = found["datasets"][0]["total"]["hours"]
    assert set(totals) == {other, mae, segmentation}
    for device, hours in totals.items():
        assert hours == pytest.approx(sum(one["hours"].get(device, 0) for one in stages.values()))


def test_rates_that_cannot_be_used_are_one_line(tmp_path):
    path = rates_file(tmp_path / "r.json", mae_pass=1.0)
    (tmp_path / "text.json").write_text('{"cpu": {"machine": 3}}')
    for name, device, fault in (
        ("r.json", "cpu", "has no segmentation_prediction"),
        ("r.json", "cuda", "nothing about cuda"),
        ("text.json", "cpu", r"cpu\.machine: .*; measure with"),
        ("none.json", "cpu", "No such file"),
    ):
        with pytest.raises(PipelineError, match=fault):
            load_rates(path.with_name(name), device)
