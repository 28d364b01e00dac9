"""ITK's warnings are heard in the thread that reads, and judged."""

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import SimpleITK

from pipeline.errors import PipelineError
from pipeline.storage.images.formats.itk_warnings import OWN, heard_warnings, listen
from tests.pipeline.storage.images.formats.written import nifti

PATH = Path("scan.nrrd")


def test_a_warning_of_a_wrong_image_is_an_error_in_its_own_thread_alone(tmp_path, values, capfd):
    bad = nifti(tmp_path / "bad.nii", values, pixdim=[1, 1, 1, 1, 0, 0, 0, 0])
    good = nifti(tmp_path / "good.nii", values)
    listen(SimpleITK)

    def read(path):
        with heard_warnings(path):
            SimpleITK.ReadImage(str(path))
        return "read"

    def outcome(path):
        try:
            return read(path)
        except PipelineError as error:
            return str(error)

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(outcome, [bad, good] * 20))
    assert outcomes[1::2] == ["read"] * 20
    assert all(text.startswith(f"{bad}: ITK warns: ") for text in outcomes[::2])
    assert all("unexpected scales in sform" in text for text in outcomes[::2])
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("text", "logged"), [("a bulb is broken", 1), ("missing slices", 0)])
def test_other_warnings_are_logged_once_with_the_file(text, logged, caplog):
    with caplog.at_level(logging.WARNING), heard_warnings(PATH):
        OWN.texts += [f"WARNING: In x.cxx, line 1\nReader (0x1): {text}\n"] * 2
    if logged:
        assert [record.getMessage() for record in caplog.records] == [
            f"scan.nrrd: ITK warns: {text}"
        ]
