"""A plan's figures, against figures worked out by hand and against the paper's."""

import json
from pathlib import Path

import pytest

from pipeline.case_sizes import ASSUMED, HEART, case_sizes
from pipeline.cli import app
from pipeline.configuration import load_settings, validate
from pipeline.datasets import CaseFiles, phantom_chest, phantom_head, phantom_heart
from pipeline.errors import PipelineError
from pipeline.plan import plan
from pipeline.rates import SHIPPED, load_rates
from pipeline.settings import Slices
from pipeline.volumes import Geometry, write_volume
from pipeline.work import TRAINED, stage_work

CONFIG = Path(__file__).parents[2] / "config"
SLICES = Slices(size=(32, 32), percentiles=(0, 100))


def tiny(tmp_path: Path, **changes) -> dict:
    """Seven cases of ten slices: 5 train, 1 validates, 1 tests."""
    lines = []
    for index in range(7):
        write_volume(tmp_path / f"{index}.nii.gz", *volume((10, 8, 6)))
        lines.append(f"case{index},{index}.nii.gz,{index}.nii.gz")
    (tmp_path / "manifest.csv").write_text("\n".join(["case,image,label", *lines]) + "\n")
    dataset = {
        "source": {"adapter": "manifest", "root": str(tmp_path)},
        "slices": {"size": [32, 32], "percentiles": [0, 100]},
        "split": {"test": 1, "validation": 1},
        "mae": {"mae": {"preset": "tiny", "image_size": 32, "patch_size": 8, "epochs": 3}},
        "residuals": {
            "mrm": {
                "preset": "paper",
                "maps": [{"mae": "mae", "mask_ratio": 0.5}, {"mae": "mae", "mask_ratio": 0.75}],
            }
        },
        "experiments": {
            "grcsf": {
                "model": "grcsf",
                "residuals": "mrm",
                "width": 4,
                "training": {"epochs": 2},
            }
        },
    }
    return {"results": str(tmp_path / "results"), "datasets": {"own": {**dataset, **changes}}}


def volume(shape):
    import numpy as np

    return np.ones(shape, np.uint8), Geometry(shape, (1.0, 1.0, 1.0))


def test_assumed_sizes_are_the_phantoms():
    assert ASSUMED["atlas"] == phantom_head.DEFAULT_SHAPE
    assert ASSUMED["msd"] == phantom_chest.DEFAULT_SHAPE
    assert phantom_heart.DEFAULT_SHAPE == HEART


def test_sizes_are_the_headers_or_the_middle_one_of_those_that_can_be_read(tmp_path):
    files = []
    for index, depth in enumerate((4, 6, 9)):
        path = tmp_path / f"{index}.{'mha' if index else 'nii.gz'}"
        write_volume(path, *volume((depth, 8, 5)))
        files.append(CaseFiles(str(index), path, None))
    (tmp_path / "empty.nii.gz").touch()
    files.append(CaseFiles("3", tmp_path / "empty.nii.gz", None))
    found = case_sizes(files, "atlas", SLICES)
    assert [one.shape for one in found] == [(4, 8, 5), (6, 8, 5), (9, 8, 5), (6, 8, 5)]
    assert [one.known for one in found] == [True, True, True, False]
    (alone,) = case_sizes(files[3:], "atlas", SLICES)
    assert alone.shape == ASSUMED["atlas"]


def test_the_slices_of_a_dicom_series_are_its_files(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.dcm").touch()
    (found,) = case_sizes([CaseFiles("a", tmp_path, None)], "dicom", SLICES)
    assert found.shape == (3, 512, 512)


def test_work_by_hand(tmp_path):
    from pipeline.counts import mae_macs, network_macs
    from pipeline.listing import planned_cases

    settings = validate(tiny(tmp_path), "test")
    dataset = settings.datasets["own"]
    cases = case_sizes(planned_cases(settings, "own"), "manifest", dataset.slices)
    names = [one.case for one in cases]
    subsets = [{"train": names[:5], "validation": names[5:6], "test": names[6:]}]
    half, quarter = (mae_macs(dataset.mae["mae"], ratio) for ratio in (0.5, 0.75))
    network = network_macs(dataset, "grcsf")
    assert half > quarter > 0
    assert stage_work(dataset, cases, subsets) == {
        # 50 slices a training epoch at either ratio in turn, 10 validated at both
        ("train_mae", "mae_training"): 3 * (50 * TRAINED * (half + quarter) // 2)
        + 3 * 10 * (half + quarter),
        ("residual_maps", "mae_pass"): 70 * 5 * (half + quarter),
        ("train_segmentation", "segmentation_training"): 2 * (50 * TRAINED + 10) * network,
        ("predict", "segmentation_prediction"): 10 * network,
    }


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
    (found,) = plan(atlas, load_rates(SHIPPED, "cuda"))
    assert (found.cases, found.slices, found.known) == (655, 655 * 189, 0)
    # Table 4; five passes at each ratio, every case once
    assert found.stages["residual_maps"].hours == pytest.approx(655 * 21.86 / 3600, rel=0.01)
    # 131 test cases; section 4.4.1 and, UNet++ being 105.46 of its 116.49 G
    seconds = 131 * 4.07 * (1 + 105.46 / 116.49)
    assert found.stages["predict"].hours == pytest.approx(seconds / 3600, rel=0.02)
    # docs/stores.md: about 7 GB and 22 GB
    assert found.stages["ingest"].size == pytest.approx(7e9, rel=0.05)
    assert found.stages["residual_maps"].size == pytest.approx(22e9, rel=0.05)
    assert found.total.jobs == sum(one.jobs for one in found.stages.values())


def test_nothing_is_trained_from_a_checkpoint_that_is_only_used(tmp_path):
    given = tiny(tmp_path)
    given["datasets"]["own"]["mae"]["mae"] |= {"epochs": 0, "checkpoint": "mae.pth"}
    (found,) = plan(validate(given, "test"), load_rates(SHIPPED, "cuda"))
    assert found.stages["train_mae"].hours == 0
    assert found.stages["residual_maps"].hours > 0


def rates_file(path: Path, device: str = "cpu", **measured) -> Path:
    figures = {kind: {"macs": macs, "seconds": 1, "of": "test"} for kind, macs in measured.items()}
    machine = {"machine": "this", "origin": "a test", "measured": figures}
    path.write_text(json.dumps({device: machine}))
    return path


def test_own_rates_change_the_hours_and_what_is_derived_is_said(tmp_path, capsys):
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(tiny(tmp_path)))
    slow = rates_file(tmp_path / "r.json", mae_pass=1e6, segmentation_prediction=1e6)
    app(["plan", str(config), "--rates", str(slow), "--json"], standalone_mode=False)
    found = json.loads(capsys.readouterr().out)
    assert found["device"] == "cpu"
    assert found["rates"]["derived"]["mae_training"] == "mae_pass"
    before = found["datasets"][0]["stages"]["train_mae"]["hours"]
    fast = rates_file(
        tmp_path / "r.json", mae_pass=1e6, segmentation_prediction=1e6, mae_training=4e6
    )
    app(["plan", str(config), "--rates", str(fast), "--json"], standalone_mode=False)
    after = json.loads(capsys.readouterr().out)["datasets"][0]["stages"]["train_mae"]["hours"]
    assert after == pytest.approx(before / 4)
    app(["plan", str(config), "--rates", str(fast)], standalone_mode=False)
    told = capsys.readouterr().out
    assert "core hours" in told
    assert "segmentation_training: 0.001 G MACs/s, not measured: derived" in told
    assert "mae_training: 0.004 G MACs/s, measured" in told


def test_rates_that_cannot_be_used_are_one_line(tmp_path):
    path = rates_file(tmp_path / "r.json", mae_pass=1.0)
    with pytest.raises(PipelineError, match="has no segmentation_prediction"):
        load_rates(path, "cpu")
    with pytest.raises(PipelineError, match="nothing about cuda"):
        load_rates(path, "cuda")
    path.write_text('{"cpu": {"machine": 3}}')
    with pytest.raises(PipelineError, match=r"cpu\.machine: .*; measure with"):
        load_rates(path, "cpu")
    with pytest.raises(PipelineError, match="No such file"):
        load_rates(tmp_path / "none.json", "cpu")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_shipped_rates_say_where_they_come_from(device):
    rates = load_rates(SHIPPED, device)
    assert rates.machine
    assert rates.origin
