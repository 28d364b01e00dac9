"""Files that were replaced since a stage read them, by newer or older ones."""

import os

import pytest

from pipeline.storage import source_notes
from pipeline.storage.files import file_digest, read_json
from pipeline.storage.source_notes import (
    file_stats,
    listing_changes,
    note_touched,
    source_changes,
    write_source_note,
)

YEAR_2020_NS = 1_577_836_800 * 10**9


@pytest.fixture
def files(tmp_path):
    """Two noted files."""
    paths = [tmp_path / name for name in ("image.nii.gz", "label.nii.gz")]
    for path in paths:
        path.write_bytes(path.name.encode())
    write_source_note(
        tmp_path / "note.json", file_stats(paths), {path: file_digest(path) for path in paths}
    )
    return paths


@pytest.mark.parametrize("content", [b"corrected!!!", b"of another size"])
@pytest.mark.parametrize("when", [YEAR_2020_NS, None, 4 * 10**18], ids=["older", "now", "newer"])
def test_a_replaced_file_is_noticed_whatever_its_time_and_again(tmp_path, files, content, when):
    files[0].write_bytes(content)
    if when is not None:
        os.utime(files[0], ns=(when, when))
    for _ in range(2):
        assert source_changes(tmp_path / "note.json").replaced == files[:1]


def test_a_touched_file_is_read_once_and_is_no_other(tmp_path, files, monkeypatch):
    os.utime(files[0], ns=(YEAR_2020_NS, YEAR_2020_NS))
    before = (tmp_path / "note.json").read_bytes()
    replaced, touched, _ = source_changes(tmp_path / "note.json")
    assert (replaced, list(touched)) == ([], [str(files[0])])
    assert (tmp_path / "note.json").read_bytes() == before, "comparing notes nothing"
    note_touched(tmp_path / "note.json", touched)
    monkeypatch.setattr(
        source_notes, "file_digest", lambda path: pytest.fail(f"{path} is read again")
    )
    assert source_changes(tmp_path / "note.json").replaced == []


def test_a_file_that_could_not_be_read_is_another_as_soon_as_it_changes(tmp_path, files):
    write_source_note(tmp_path / "note.json", file_stats(files), {})
    assert source_changes(tmp_path / "note.json").replaced == []
    os.utime(files[1], ns=(YEAR_2020_NS, YEAR_2020_NS))
    assert source_changes(tmp_path / "note.json").replaced == files[1:]


def test_a_note_of_results_that_are_not_ours_stays_as_it_is(tmp_path, files, monkeypatch):
    before = read_json(tmp_path / "note.json")

    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(source_notes, "write_json", refused)
    os.utime(files[0])
    note_touched(tmp_path / "note.json", source_changes(tmp_path / "note.json").touched)
    assert read_json(tmp_path / "note.json") == before


def test_a_listing_is_compared_with_the_note(tmp_path, files):
    note, new, broken = tmp_path / "note.json", tmp_path / "new.nii.gz", tmp_path / "broken.nii.gz"
    new.touch()
    broken.symlink_to(tmp_path / "nowhere")  # seen by no stage, so it would come again every time
    assert listing_changes(note, files) == ([], [])
    assert listing_changes(note, [files[0], new, broken]) == ([new], [files[1]])
    assert listing_changes(tmp_path / "none.json", files) == ([], [])
