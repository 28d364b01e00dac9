"""What a job reads and writes, in the branches that the tiny runs do not take."""

import os
from pathlib import Path

import pytest

from pipeline.orchestration.job_files import read_files, written_files
from pipeline.settings.reading import load_settings
from pipeline.storage.files import write_json
from pipeline.storage.layout import STAGES, Layout, record_of

CONFIG = Path(__file__).parents[3] / "config" / "ablations.yaml"
NAMES = {
    "train_mae": {"mae": "m"},
    "residual_maps": {"residuals": "r", "batch": "1of2"},
    "train_segmentation": {"experiment": "e", "subset": 2},
    "predict": {"experiment": "e", "subset": 2},
    "postprocess": {"experiment": "e", "subset": 2},
    "evaluate": {"experiment": "e"},
    "tabulate": {"table": "t"},
}


@pytest.fixture
def atlas():
    settings = load_settings(CONFIG, {"datasets": {"atlas": {"source": {"root": "images"}}}})
    return settings.datasets["atlas"]


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "results", "atlas")


def relative(layout, files):
    return {file.relative_to(layout.root / "atlas").as_posix() for file in files}


def test_every_job_has_a_record_of_its_own_in_its_stage_s_folder(layout):
    records = [record_of(written_files(layout, stage, NAMES.get(stage, {}))[0]) for stage in STAGES]
    assert len(set(records)) == len(STAGES)
    for stage, record in zip(STAGES, records, strict=True):
        assert record.is_relative_to(layout.stage(stage))
    with pytest.raises(ValueError, match="no stage is called 'guess'"):
        written_files(layout, "guess", {})


def test_grad_cam_reads_the_networks_that_it_looks_at(layout, atlas):
    (name,) = [key for key, made in atlas.residuals.items() if hasattr(made, "grad_cam")]
    network = atlas.residuals[name].grad_cam
    files = read_files(layout, atlas, "residual_maps", {"residuals": name, "batch": "1of1"})
    subsets = atlas.subsets_with(name)
    models = {f"train_segmentation/{network}/subset-{subset}.json" for subset in subsets}
    assert relative(layout, files) == {"ingest/manifest.json", "split/split.json", *models}


def test_a_network_with_an_mae_s_encoder_reads_the_mae(layout, atlas):
    name = next(key for key, known in atlas.experiments.items() if known.mae_encoder)
    experiment = atlas.experiments[name]
    assert experiment.residuals is None
    names = {"experiment": name, "subset": 1}
    files = read_files(layout, atlas, "train_segmentation", names)
    assert relative(layout, files) == {
        "ingest/manifest.json",
        "split/split.json",
        f"train_mae/{experiment.mae_encoder.mae}.json",
    }


def test_a_table_reads_the_scores_of_its_rows_once(layout, atlas):
    files = read_files(layout, atlas, "tabulate", {"table": "table-3"})
    rows = {row.experiment for row in atlas.tables["table-3"].rows}
    scores = {f"evaluate/{name}{suffix}" for name in rows for suffix in (".csv", ".json")}
    assert relative(layout, files) == {"ingest/manifest.json", "split/split.json", *scores}
    assert len(files) == len(set(files))


def test_batches_of_another_number_are_left_out(layout, atlas):
    name = next(key for key, known in atlas.experiments.items() if known.residuals)
    residuals = atlas.experiments[name].residuals
    cases = dict.fromkeys("abcdefgh", "fingerprint")
    write_json(layout.cases, {"cases": cases})
    for second, batch in enumerate(("1of1", "1of2", "2of2")):
        manifest = layout.residual_batch(residuals, batch)
        write_json(manifest, {"cases": cases})
        write_json(record_of(manifest), {})
        os.utime(manifest, (second, second))
    files = read_files(layout, atlas, "predict", {"experiment": name, "subset": 1})
    batches = {f"residual_maps/{residuals}/batch-{n}of2.json" for n in (1, 2)}
    assert {file for file in relative(layout, files) if "batch" in file} == batches


@pytest.mark.parametrize("stage", STAGES)
def test_a_written_file_tells_the_work_that_claims_it(layout, stage):
    names = NAMES.get(stage, {})
    for file in written_files(layout, stage, names):
        assert layout.work_of(file) == " ".join([stage, *map(str, names.values())])
