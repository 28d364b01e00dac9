"""What is refused before the first job, and what is let through."""

import errno
import multiprocessing
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.datasets import CaseFiles
from pipeline.errors import PipelineError
from pipeline.planning import preflight
from pipeline.planning.sizes import case_sizes, stores_needed
from pipeline.settings import Settings
from pipeline.settings.reading import validate
from pipeline.storage.layout import Layout

GB = 10**9
NOBODY = 65534


def settings(tmp_path: Path, **dataset) -> Settings:
    given = {
        "source": {"adapter": "atlas", "root": str(tmp_path / "images")},
        "slices": {"size": [224, 224], "percentiles": [0, 99.9]},
        "mae": {"mae": {"preset": "tiny"}},
        "residuals": {"mrm": {"preset": "paper", "maps": [{"mae": "mae", "mask_ratio": 0.5}]}},
        "experiments": {"unet": {"model": "unet"}, "grcsf": {"model": "grcsf", "residuals": "mrm"}},
    }
    datasets = {"head": {**given, **dataset}}
    return validate({"results": str(tmp_path / "results"), "datasets": datasets}, "test")


def cases(count: int, groups: int = 1, labelled: bool = True) -> list[CaseFiles]:
    label = Path("none.nii.gz") if labelled else None
    return [
        CaseFiles(f"case{index}", Path("none.nii.gz"), label, group=f"R{index % groups}")
        for index in range(count)
    ]


def sharing(tmp_path: Path, root: str | Path) -> Settings:
    chosen = settings(tmp_path)
    return chosen.model_copy(update={"store": chosen.store.model_copy(update={"root": str(root)})})


def shared_fault(root: Path) -> str | None:
    return preflight.store_fault(sharing(root.parents[1], root))


CHECKS = [("results", preflight.results_fault), ("store.root", shared_fault)]


@pytest.mark.parametrize(("key", "check"), CHECKS)
def test_a_folder_that_takes_files_is_left_as_it_was_and_a_file_is_refused(tmp_path, key, check):
    assert check(tmp_path / "not" / "there" / "yet") is None
    assert preflight.store_fault(settings(tmp_path)) is None
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "maps"):
        told = f"{key} {folder}: found a file at {tmp_path}/file, expected a folder; choose"
        with pytest.raises(PipelineError, match=told):
            check(folder)


def ask_as_nobody(answers, check, folder: Path) -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setuid(NOBODY)
    answers.put(check(folder))


@pytest.mark.parametrize("below", ["closed", "closed/a/b"])
@pytest.mark.parametrize(("key", "check"), CHECKS)
def test_a_folder_that_may_not_be_entered_is_told(key, check, below):
    folder = Path(tempfile.mkdtemp(prefix="grcsf-test-"))
    try:
        folder.chmod(0o755)
        (folder / "closed").mkdir()
        (folder / "closed").chmod(0)
        fork = multiprocessing.get_context("fork")
        answers = fork.SimpleQueue()
        child = fork.Process(target=ask_as_nobody, args=(answers, check, folder / below))
        child.start()
        child.join()
        assert child.exitcode == 0
        told = f"{key} {folder / below}: nothing can be written to {folder}/closed (Permission"
        assert answers.get().startswith(told)
    finally:
        (folder / "closed").chmod(0o755)
        shutil.rmtree(folder)


@pytest.mark.parametrize(("number", "refused"), [(errno.EROFS, False), (errno.ENOSPC, True)])
def test_a_shared_folder_may_be_read_only_but_not_full(tmp_path, monkeypatch, number, refused):
    def refuse(**_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    assert bool(preflight.store_fault(sharing(tmp_path, tmp_path))) == refused
    not_there = sharing(tmp_path, tmp_path / "not" / "there")
    assert preflight.store_fault(not_there) == (
        f"store.root {tmp_path}/not/there: nothing can be written to {tmp_path} "
        f"({os.strerror(number)}); free some space, make it writable, or choose another "
        "`store.root`"
    )


@pytest.mark.parametrize(
    ("changed", "modality", "told"),
    [
        ({"postprocess": {"method": "calcium"}}, "MR", "postprocess.method: found calcium, and MR"),
        ({"evaluation": {"metrics": "calcium"}}, "", "and an unknown modality for case case0"),
        ({"evaluation": {"metrics": "calcium"}}, "CT", None),
        ({"postprocess": {"method": "components"}}, "MR", None),
    ],
)
def test_calcium_is_looked_for_in_ct_alone(tmp_path, changed, modality, told):
    files = [replace(one, modality=modality) for one in cases(3)]
    chosen = settings(tmp_path, **changed).datasets["head"]
    if told is None:
        preflight.check_units(chosen, files)
        return
    with pytest.raises(PipelineError, match=told):
        preflight.check_units(chosen, files)
    source = {"adapter": "atlas", "root": "images", "modality": "CT"}
    preflight.check_units(settings(tmp_path, source=source, **changed).datasets["head"], files)


def test_a_link_to_a_disk_that_is_not_mounted_is_refused(tmp_path):
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "disk")
    for key, check in CHECKS:
        with pytest.raises(PipelineError, match=f"{key} {link}/a: found a link at {link} to what"):
            check(link / "a")
    (tmp_path / "disk").mkdir()
    assert preflight.results_fault(link) is None


@pytest.mark.parametrize(
    ("split", "groups", "told"),
    [
        ({"by": "group", "subsets": 4}, 3, "found 3 groups, expected at least 4 for 4 subsets"),
        ({"by": "group", "subsets": 4}, 7, "at least 2 to hold one out"),
        ({"test": 1, "validation": 11}, 1, "leave 11 for training and validation"),
    ],
)
def test_an_impossible_split_is_refused(tmp_path, split, groups, told):
    chosen = settings(tmp_path, split=split).datasets["head"]
    with pytest.raises(PipelineError, match=told):
        preflight.check_split(chosen, cases(12, groups), seed=1)
    with pytest.raises(PipelineError, match="no reference among 3 cases"):
        preflight.check_split(chosen, cases(3, labelled=False), seed=1)
    preflight.check_split(chosen, cases(40, 8), seed=1)


def test_more_labelled_cases_than_a_subset_has_are_refused(tmp_path):
    few = {"few": {"model": "unet", "labelled_cases": 8}}
    chosen = settings(tmp_path, split={"test": 2, "validation": 2}, experiments=few)
    preflight.check_split(chosen.datasets["head"], cases(10), seed=1)
    with pytest.raises(PipelineError, match=r"few\.labelled_cases: found 8, expected at most 7"):
        preflight.check_split(chosen.datasets["head"], cases(9), seed=1)


def test_a_healthy_scan_of_a_tested_group_is_refused(tmp_path):
    chosen = settings(tmp_path, split={"by": "group", "folds": 2, "validation": 1})
    healthy = [
        CaseFiles("sound", Path("none.nii.gz"), None, group=group, role="healthy")
        for group in ("R1", "R9", "")
    ]
    told = r"split\.by: group, but healthy scan sound is of group R1, which is tested"
    with pytest.raises(PipelineError, match=told):
        preflight.check_split(chosen.datasets["head"], [*cases(6, 3), healthy[0]], seed=1)
    preflight.check_split(chosen.datasets["head"], [*cases(6, 3), *healthy[1:]], seed=1)
    by_case = settings(tmp_path, split={"folds": 2, "validation": 1}).datasets["head"]
    preflight.check_split(by_case, [*cases(6, 3), healthy[0]], seed=1)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"experiment": "nope"}, "experiments has no 'nope'; it has: unet, grcsf"),
        ({"table": "table-3"}, "tables has no 'table-3'; it has: none"),
        ({"experiment": "unet", "subset": "2"}, "unet has no subset 2; it has: 1"),
    ],
)
def test_a_job_about_an_unknown_name_is_refused(tmp_path, asked, told):
    with pytest.raises(PipelineError, match=f"data set head: .*{told}"):
        preflight.check_names(settings(tmp_path), {"dataset": "head", **asked})


def needed(chosen: Settings, files: list[CaseFiles]) -> int:
    dataset = chosen.datasets["head"]
    stores = stores_needed(dataset, case_sizes(files, "atlas", dataset.slices))
    return stores["case stores"] + stores["residual stores"]


def with_free(monkeypatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))


def test_a_disk_that_is_too_small_is_told_and_a_full_one_refused(monkeypatch, tmp_path):
    chosen, files = settings(tmp_path), cases(655)
    stores = needed(chosen, files)
    # docs/reference/stores.md: about 7 GB of case stores, and 22 GB for two maps
    assert pytest.approx(stores, rel=0.1) == 7 * GB + 11 * GB
    with_free(monkeypatch, stores + 1)
    assert preflight.check_disk(chosen, {"head": files}) == []
    with_free(monkeypatch, stores - GB)
    (told,) = preflight.check_disk(chosen, {"head": files})
    assert f"about {stores / GB:.3g} GB, and" in told
    with_free(monkeypatch, 10**6)
    with pytest.raises(PipelineError, match=r"found 1 MB of free disk, expected about .* GB"):
        preflight.check_disk(chosen, {"head": files})


def test_only_what_is_not_made_yet_has_to_fit(monkeypatch, tmp_path):
    chosen, files = settings(tmp_path), cases(20)
    layout = Layout(tmp_path / "results", "head")
    for one in files[:15]:
        layout.case_store(one.case).mkdir(parents=True)
        layout.residual_store("mrm", one.case).mkdir(parents=True)
    with_free(monkeypatch, needed(chosen, files) // 4)
    assert preflight.check_disk(chosen, {"head": files}) == []
    with_free(monkeypatch, needed(chosen, files) // 4 - 10**6)
    assert len(preflight.check_disk(chosen, {"head": files})) == 1
