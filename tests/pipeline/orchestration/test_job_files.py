"""What a job reads and writes, in the branches that the tiny runs do not take."""

import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from pipeline.orchestration.job_files import read_files, written_files
from pipeline.orchestration.locks import list_locks, locked
from pipeline.settings.reading import load_settings
from pipeline.storage.files import write_json
from pipeline.storage.folders import record_of
from pipeline.storage.layout import STAGES, Layout, work_name

CONFIG = Path(__file__).parents[3] / "config" / "ablations.yaml"
SUBSET = {"experiment": "e", "subset": 2}
NAMES = {
    "train_mae": {"mae": "m"},
    "residual_maps": {"residuals": "r", "batch": "1of2"},
    **{"train_segmentation": SUBSET, "predict": SUBSET, "postprocess": SUBSET},
    "evaluate": {"experiment": "e"},
    "tabulate": {"table": "t"},
    "draw": {"figure": "methods"},
}


@pytest.fixture
def atlas():
    return load_settings(CONFIG).datasets["atlas"]


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "results", "atlas")


def relative(layout, files):
    return {file.relative_to(layout.root / "atlas").as_posix() for file in files}


def test_a_job_s_record_lies_with_its_stage_and_its_files_tell_its_work(layout):
    for stage in STAGES:
        names = NAMES.get(stage, {})
        files = written_files(layout, stage, names)
        assert record_of(files[0]).is_relative_to(layout.stage(stage))
        work = " ".join([stage, *map(str, names.values())])
        assert {layout.work_of(file) for file in files} == {work}
    with pytest.raises(ValueError, match="no stage is called 'guess'"):
        written_files(layout, "guess", {})


def test_a_repeat_s_work_is_one_file_s_name_and_its_results_are_found(layout):
    for stage in ("train_segmentation", "predict", "postprocess"):
        names = {"experiment": "unet/repeat-2", "subset": 3}
        (manifest,) = written_files(layout, stage, names)
        work = f"{stage} unet repeat-2 3"
        assert layout.work_of(manifest) == work == work_name(stage, *names.values())
        with locked(layout, stage, *names.values()):
            assert [lock.work for lock in list_locks(layout)] == [work]
        write_json(manifest, {})
    found = [path for _, path in layout.existing("manifest")]
    assert len(found) == 3
    assert {path.parent.name for path in found} == {"repeat-2"}


def test_scores_are_of_all_repeats_and_a_report_of_the_first(layout, atlas):
    settings = next(iter(atlas.experiments.values()))
    unet = settings.model_copy(update={"repeats": 2, "subsets": (1,)})
    repeated = atlas.model_copy(update={"experiments": {"unet": unet}})
    read = relative(layout, read_files(layout, repeated, "evaluate", {"experiment": "unet"}))
    shown = relative(layout, read_files(layout, repeated, "report", {}))
    both = {f"postprocess/unet/{part}subset-1.json" for part in ("", "repeat-2/")}
    assert {path for path in read if path.startswith("postprocess")} == both
    assert not any("repeat-2" in path for path in shown)


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
    files = read_files(layout, atlas, "train_segmentation", {"experiment": name, "subset": 1})
    mae = f"train_mae/{experiment.mae_encoder.mae}.json"
    assert relative(layout, files) == {"ingest/manifest.json", "split/split.json", mae}


def test_a_batch_of_an_applied_model_reads_its_own_batches_of_ingest(layout, atlas):
    applied = atlas.model_copy()
    applied._bundle = Mock()
    for number in range(4):
        write_json(layout.ingest_batch(f"{number + 1}of4"), {})
    names = {"experiment": "unetpp", "subset": 1, "batch": "2of2"}
    own = {"ingest/batch-2of4.json", "ingest/batch-4of4.json"}
    mask = "predict/unetpp/subset-1/batch-2of2.json"
    assert relative(layout, read_files(layout, applied, "postprocess", names)) == {*own, mask}
    read = relative(layout, read_files(layout, atlas, "postprocess", names))
    assert read == {"ingest/manifest.json", mask}, "elsewhere a new case may change the split"


def test_a_table_reads_the_scores_of_its_rows_once(layout, atlas):
    files = read_files(layout, atlas, "tabulate", {"table": "table-3"})
    rows = {row.experiment for row in atlas.tables["table-3"].rows}
    scores = {f"evaluate/{name}{suffix}" for name in rows for suffix in (".csv", ".json")}
    assert relative(layout, files) == {"ingest/manifest.json", "split/split.json", *scores}
    assert len(files) == len(set(files))


# a and b are in the second of two batches, and c would be in the first
@pytest.mark.parametrize(
    ("mapped", "healthy", "made"), [("abcdefgh", "sound", (1, 2)), ("ab", "c", (2,))]
)
def test_batches_of_another_number_are_left_out(layout, atlas, mapped, healthy, made):
    name = next(key for key, known in atlas.experiments.items() if known.residuals)
    residuals = atlas.experiments[name].residuals
    cases = dict.fromkeys(mapped, "fingerprint")
    ingested = {case: {"role": ""} for case in cases} | {healthy: {"role": "healthy"}}
    write_json(layout.cases, {"cases": ingested})
    for second, batch in enumerate(("1of1", *(f"{n}of2" for n in made))):
        manifest = layout.residual_batch(residuals, batch)
        write_json(manifest, {"cases": cases})
        write_json(record_of(manifest), {})
        os.utime(manifest, (second, second))
    files = read_files(layout, atlas, "predict", {"experiment": name, "subset": 1})
    batches = {f"residual_maps/{residuals}/batch-{n}of2.json" for n in made}
    assert {file for file in relative(layout, files) if "batch" in file} == batches
