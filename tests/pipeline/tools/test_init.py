"""`grcsf init` proposes settings from what a folder holds, and they run."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.datasets.phantoms.phantom import write_phantom
from pipeline.errors import PipelineError
from pipeline.settings.reading import load_settings
from pipeline.storage.images.geometry import Geometry
from pipeline.storage.images.volumes import write_volume
from tests.pipeline.dicom_files import AXIAL, write_slices

SHAPE, MM = (6, 40, 48), (3.0, 0.9, 0.9)
GRID = Geometry(SHAPE, MM)


def image(seed):
    """Noise with a dark square lesion in slices 2 and 3, and its label."""
    values = np.random.default_rng(seed).normal(100, 5, SHAPE).astype(np.float32)
    label = np.zeros(SHAPE, np.uint8)
    label[2:4, 10:20, 10:20] = 1
    values[label > 0] = 60
    return values, label


def write_pairs(
    folder, count, image_name="imagesTr/{}_0000.nii.gz", label_name="labelsTr/{}.nii.gz"
):
    for index in range(count):
        values, label = image(index)
        for name, array in ((image_name, values), (label_name, label)):
            path = folder / name.format(f"case{index}")
            path.parent.mkdir(parents=True, exist_ok=True)
            write_volume(path, array, GRID)


def init(folder, output=None, *options):
    """The configuration that `grcsf init` writes, as settings and as its text, and what it says."""
    output = output or folder.parent / "config.yaml"
    ended = CliRunner().invoke(app, ["init", str(folder), "--output", str(output), *options])
    if ended.exception:
        raise ended.exception
    (dataset,) = load_settings(output).datasets.values()
    return dataset, output.read_text("utf-8"), ended.output


@pytest.mark.parametrize(
    ("kind", "adapter", "scaling", "metrics", "side"),
    [
        ("heart", "orcascore", {"window": (-200, 800)}, "calcium", 64),
        ("head", "atlas", {"percentiles": (0, 99.9)}, "voxel", 64),
    ],
)
def test_a_phantom_s_configuration_is_that_of_its_kind(
    tmp_path, kind, adapter, scaling, metrics, side
):
    write_phantom(kind, tmp_path / "images", cases=5, seed=1, shape=(8, 64, 64))
    chosen, text, said = init(tmp_path / "images")
    config = tmp_path / "config.yaml"
    assert f"next: grcsf check --config {config} --dataset images " in said
    assert chosen.source.adapter == adapter
    assert {key: getattr(chosen.slices, key) for key in scaling} == scaling
    assert (chosen.slices.size, chosen.slices.plane) == ((side, side), "axial")
    assert (chosen.evaluation.metrics, chosen.split.by) == (metrics, "group")
    assert (chosen.postprocess.method == "calcium") is (metrics == "calcium")
    assert chosen.source.binarise is (adapter == "atlas")
    assert list(chosen.experiments) == ["unetpp", "grcsf"]
    assert chosen.residuals["mrm"].difference == "signed"
    assert "# 4 groups" in text or "# 5 groups" in text or "# 3 groups" in text


def test_every_proposed_value_says_what_was_seen(tmp_path):
    write_pairs(tmp_path / "own", 5)
    description = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "lesion": 1}}
    description |= {"numTraining": 5, "file_ending": ".nii.gz"}
    (tmp_path / "own" / "dataset.json").write_text(json.dumps(description))
    chosen, text, said = init(tmp_path / "own")
    assert chosen.source.adapter == "nnunet"
    assert chosen.slices.size == (64, 64)
    assert "in-plane 0.9 × 0.9 mm in 5 of 5 images, 40 × 48 pixels in 5 of 5 images" in text
    assert "apart by 3 mm in 5 of 5 images" in text
    assert "# 5 cases with a label, 0 without" in text
    assert "3 train, 1 validation, 1 test" in " ".join(text.replace("#", "").split())
    assert "snakemake --cores 2 --configfile" in said


def test_folders_of_dicom_slices_with_a_mask_each_listed_in_a_csv(tmp_path):
    lines = ["case,image,label,group"]
    for index in range(4):
        values, label = image(index)
        name, site = f"p{index}", "AB"[index % 2]
        write_slices(
            tmp_path / "own" / name, values.astype(np.uint16), spacing=MM[1:], orientation=AXIAL,
            Modality="MR", rescale=[(1, 0)] * SHAPE[0],
        )  # fmt: skip
        origin = (0.0, -20.0, -10.0)  # as `write_slices` places them
        write_volume(tmp_path / "own" / f"{name}.nii.gz", label, Geometry(SHAPE, MM, origin))
        lines.append(f"{name},{name},{name}.nii.gz,{site}")
    table = tmp_path / "own" / "manifest.csv"
    table.write_text("\n".join(lines) + "\n")
    chosen, text, _ = init(tmp_path / "own")
    assert (chosen.source.adapter, chosen.source.modality) == ("manifest", "MR")
    assert "MR by DICOM in 4 of 4 images" in text
    assert chosen.split.by == "group"

    stored, without_hu = image(0)[0].astype(np.uint16), [(1, 0)] * SHAPE[0]
    write_slices(tmp_path / "own" / "p0", stored, rescale=without_hu, spacing=MM[1:])  # of a CT
    *_, said = init(tmp_path / "own", None, "--force")
    assert "case p0: " in said
    assert "are no plausible HU" in said

    table.unlink()
    with pytest.raises(
        PipelineError, match="4 images as dicom lists them, none with a label: noth"
    ):
        init(tmp_path / "own", None, "--force")


def ct(folder, count, modify=lambda label: label):
    """A list of CT crops: air, and tissue of 40 HU with a lesion of 80."""
    lines = ["case,image,label"]
    for index in range(count):
        values, label = image(index)
        hu = np.where(values < 80, 80, 40).astype(np.int16)
        hu[:, :6] = -1000
        write_volume(folder / f"c{index}.mha", hu, GRID)
        write_volume(folder / f"l{index}.mha", modify(label), GRID)
        lines.append(f"c{index},c{index}.mha,l{index}.mha")
    path = folder / "list.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_ct_is_known_by_its_hu_and_its_window_lies_around_the_lesions(tmp_path):
    (tmp_path / "own").mkdir()
    chosen, text, _ = init(ct(tmp_path / "own", 3), tmp_path / "config.yaml")
    assert (chosen.source.adapter, chosen.source.modality) == ("manifest", "CT")
    low, high = chosen.slices.window
    assert -1024 <= low <= -1000
    assert 80 <= high <= 105
    assert "CT by the range of values in 3 of 3 images" in text


def test_experiments_without_maps_need_no_masked_model(tmp_path):
    (tmp_path / "own").mkdir()
    listed = ct(tmp_path / "own", 3)
    chosen, *_ = init(listed, tmp_path / "config.yaml", "--experiments", "unet,unetpp")
    assert (list(chosen.experiments), chosen.mae) == (["unet", "unetpp"], {})
    with pytest.raises(PipelineError, match=r"--experiments: found 'unett', expected some of"):
        init(listed, tmp_path / "other.yaml", "--experiments", "unett")
    assert not (tmp_path / "other.yaml").exists()


def test_where_every_slice_has_lesion_there_are_no_maps(tmp_path):
    (tmp_path / "own").mkdir()

    def everywhere(label):
        label[:, 10:20, 10:20] = 1
        return label

    chosen, _, said = init(ct(tmp_path / "own", 3, everywhere), tmp_path / "config.yaml")
    assert list(chosen.experiments) == ["unetpp"]
    assert "no slice without lesion was seen" in said


def test_a_written_configuration_is_not_lost(tmp_path):
    (tmp_path / "own").mkdir()
    listed = ct(tmp_path / "own", 3)
    output = tmp_path / "config.yaml"
    output.write_text("mine")
    with pytest.raises(PipelineError, match="is there already, expected a new file; choose"):
        init(listed, output)
    assert output.read_text() == "mine"
    init(listed, output, "--force")
    assert yaml.safe_load(output.read_text())["datasets"].keys() == {"list"}


def test_a_folder_is_never_written_over(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "scan").touch()
    with pytest.raises(PipelineError, match="kept: found a folder, expected a file; choose"):
        init(tmp_path, tmp_path / "kept", "--force")
    assert (tmp_path / "kept" / "scan").exists()


@pytest.mark.parametrize("name", ["2024-01-15", "12", "null"])
def test_a_folder_s_name_that_yaml_reads_as_no_text_names_the_data_set(tmp_path, name):
    (tmp_path / name).mkdir()
    ct(tmp_path / name, 3).rename(tmp_path / name / "manifest.csv")
    init(tmp_path / name, None, "--experiments", "unet")
    assert list(load_settings(tmp_path / "config.yaml").datasets) == [name]


@pytest.mark.parametrize("name", ["a$HOME", "a{b}", "a\nb", "a\u2028b", "a\udcffb"])
def test_a_path_that_would_mean_another_one_in_a_configuration_is_refused(tmp_path, name):
    with pytest.raises(PipelineError, match="a path that no configuration can hold") as caught:
        init(tmp_path / name, tmp_path / "config.yaml")
    assert "\n" not in str(caught.value)


def test_no_experiment_is_told_and_a_mixture_of_modalities(tmp_path):
    (tmp_path / "own").mkdir()
    listed = ct(tmp_path / "own", 3)
    with pytest.raises(PipelineError, match="--experiments: found '', expected some of unet"):
        init(listed, tmp_path / "config.yaml", "--experiments", ",")
    write_volume(tmp_path / "own" / "c1.mha", image(1)[0], GRID)
    *_, said = init(listed, tmp_path / "my config.yaml", "--experiments", "unet")
    assert "images of several modalities (CT in 2, MR in 1); expected one" in said
    assert f"--configfile '{tmp_path}/my config.yaml'" in said


def test_a_folder_that_fits_nothing_is_told_what_each_adapter_looks_for(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(PipelineError, match="fits no adapter") as caught:
        init(tmp_path, tmp_path.parent / "none.yaml")
    said = str(caught.value)
    assert "\n" not in said
    for adapter in ("manifest:", "msd:", "nnunet:", "orcascore:", "atlas:", "dicom:"):
        assert adapter in said


def test_real_nodules(shared_dir, tmp_path):
    folder = Path(shared_dir, "real", "nodules", "Task06_Lung")
    chosen, text, _ = init(folder, tmp_path / "config.yaml")
    assert (chosen.source.adapter, chosen.slices.size) == ("msd", (64, 64))
    assert "100 cases with a label" in text
    assert set(chosen.mae) == {"shared"}, "some 170 slices are few"


def test_ignored_values_are_no_lesion_and_a_faulty_case_is_set_aside(tmp_path):
    write_pairs(tmp_path / "own", 6)
    labels = {"background": 0, "tumour": 1, "oedema": 2, "ignore": 3}
    description = {"channel_names": {"0": "MRI"}, "labels": labels, "numTraining": 6}
    (tmp_path / "own" / "dataset.json").write_text(json.dumps(description))
    (tmp_path / "own" / "imagesTr" / "case3_0000.nii.gz").write_bytes(b"broken")
    chosen, _, said = init(tmp_path / "own")
    assert (chosen.source.foreground, chosen.source.on_error) == ((1, 2), "skip")
    assert "case3_0000.nii.gz: no gzip header" in said
    # of a label that has to be binarised no value can be told to be ignored
    write_volume(tmp_path / "own" / "labelsTr" / "case0.nii.gz", 0.01 * image(0)[1], GRID)
    with pytest.raises(PipelineError, match="value 3 is 'ignore' and would become lesion"):
        init(tmp_path / "own", tmp_path / "none.yaml")
    assert not (tmp_path / "none.yaml").exists()


def test_thick_sagittal_slices_of_several_volumes_stay_as_they_are_stored(tmp_path):
    folder, lines = tmp_path / "own", ["case,image,label"]
    folder.mkdir()
    # slices follow one another from left to right, 4 mm apart
    affine = np.array([[0, 0, 4.0, 0], [0.9, 0, 0, 0], [0, 0.9, 0, 0], [0, 0, 0, 1.0]])
    for index in range(3):
        values, label = (each.transpose(2, 1, 0) for each in image(index))
        twice = np.stack([values, values], axis=-1)
        for name, array in ((f"c{index}", twice), (f"l{index}", 0.01 * label)):
            nibabel.save(
                nibabel.Nifti1Image(array.astype(np.float32), affine), folder / f"{name}.nii"
            )
        lines.append(f"c{index},c{index}.nii,l{index}.nii")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    chosen, text, _ = init(folder)
    assert chosen.slices.plane == "as_stored"
    assert (chosen.source.channel, chosen.source.binarise) == (0, True)
    assert "stored as sagittal slices in 3 of 3 images; apart by 4 mm" in text


def test_with_a_graphics_card_and_many_slices_the_paper_s_sizes_are_proposed(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("pipeline.tools.init.proposal.FEW_SLICES", 0)
    (tmp_path / "own").mkdir()
    chosen, *_ = init(ct(tmp_path / "own", 3), tmp_path / "config.yaml")
    assert load_settings(tmp_path / "config.yaml").resources.gpus == 1
    assert {name: mae.train_mask_ratios for name, mae in chosen.mae.items()} == {
        "mae50": (0.5,),
        "mae75": (0.75,),
    }
    assert [mae.preset for mae in chosen.mae.values()] == ["large", "large"]
    assert [part.mae for part in chosen.residuals["mrm"].maps] == ["mae50", "mae75"]
    assert {network.width for network in chosen.experiments.values()} == {64}
    assert {network.training.precision for network in chosen.experiments.values()} == {"bf16"}
