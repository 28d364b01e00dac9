"""The section `apply`: the data set that a bundle and a few keys make, and what is refused."""

from pathlib import Path

import pytest
from untrained_bundle import write_bundle

from pipeline.errors import PipelineError
from pipeline.settings import EnsembleExperiment, stage_settings
from pipeline.settings.apply.cohort import cohort_result
from pipeline.settings.reading import validate

MEMBERS = ((1, 1), (1, 2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a bundle of two networks."""
    folder = tmp_path_factory.mktemp("apply")
    write_bundle(folder, members=MEMBERS)
    return folder


@pytest.fixture(autouse=True)
def _here(folder, monkeypatch):
    monkeypatch.chdir(folder)


def applied(**given):
    return validate({"model": "chest-2.zip", "root": "scans", **given}, "c.yaml")


def test_the_data_set_is_the_bundle_s_but_for_its_scans():
    settings = applied(format="nifti")
    assert settings.seed == 5
    assert settings.apply.format == "nifti"
    dataset = settings.datasets["chest"]
    source = dataset.source
    assert (source.adapter, source.root, source.modality) == ("auto", "scans", "CT")
    assert (source.labels, source.on_error) == (False, "skip")
    assert dataset.slices.window == (-1000, 400)
    assert isinstance(dataset.experiments["grcsf-ensemble"], EnsembleExperiment)
    assert cohort_result(dataset) == ("grcsf-ensemble", 1)
    assert dataset.members_of("grcsf-ensemble", 1) == [("grcsf", 1), ("grcsf/repeat-2", 1)]
    assert applied() == validate({"apply": {"model": "chest-2.zip", "root": "scans"}}, "c.yaml")


def test_weights_are_not_read_for_it(folder):
    whole = (folder / "chest-2.zip").read_bytes()
    weights = whole.index(b"PK\x03\x04", whole.index(b".safetensors"))
    cut = bytearray(whole)
    cut[weights - 400 : weights - 200] = bytes(200)
    (folder / "other.zip").write_bytes(cut)
    assert applied(model="other.zip").datasets == applied().datasets


def test_what_does_not_change_masks_leaves_all_stages_but_one_alone():
    plain, other = applied(), applied(format="nifti")
    for stage, name in (("ingest", ""), ("predict", "grcsf"), ("postprocess", ""), ("unpack", "")):
        assert stage_settings(plain, stage, "chest", name) == stage_settings(
            other, stage, "chest", name
        )
    assert stage_settings(plain, "measure", "chest") != stage_settings(other, "measure", "chest")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"root": None}, "apply.root: found nothing, expected text"),
        ({"format": "dicom"}, "apply.format: found 'dicom' (str), expected 'auto', 'nifti' or"),
        ({"datasets": {}}, "datasets: found it beside model, expected one of the two"),
        ({"seed": 3}, "seed: found it beside model"),
        ({"apply": {"root": "b"}}, "root: found it beside apply.root"),
        ({"apply": {"rot": "b"}}, "apply.rot: unknown key; did you mean 'root'?"),
        ({"apply": 3}, "apply: found"),
        ({"fromat": "seg"}, "apply.fromat: unknown key; did you mean 'format'?"),
        ({"result": "o"}, "result: unknown key; did you mean 'results'?"),
        ({"results": "scans/out"}, "results: found 'scans/out' inside the root 'scans'"),
        ({"model": "none.zip"}, "bundle none.zip: not there"),
        ({"model": "$NOWHERE/a.zip"}, "apply.model: found '$NOWHERE/a.zip', whose environment"),
        ({"resources": {"gpu": 1}}, "resources.gpu: unknown key; did you mean 'gpus'?"),
    ],
)
def test_what_is_refused_is_one_line(given, said):
    with pytest.raises(PipelineError) as raised:
        applied(**given)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_results_in_a_root_that_a_link_leads_to_are_refused(folder):
    (folder / "linked").mkdir(exist_ok=True)
    (folder / "way").symlink_to(folder / "linked")
    with pytest.raises(PipelineError, match="inside the root"):
        applied(root="way", results=str(Path("linked", "out")))
