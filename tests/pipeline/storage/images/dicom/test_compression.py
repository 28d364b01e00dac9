"""Compressed DICOM values come back bit for bit, and what is cut off or damaged is one line."""

import numpy as np
import pydicom
import pytest
from pydicom import uid

from pipeline.errors import PipelineError
from pipeline.storage.images.volumes import read_volume
from tests.pipeline.dicom_files import (
    both,
    random_values,
    refused,
    write_slices,
)

STORED = random_values()


def compressed(folder, syntax):
    for file in folder.iterdir():
        made = pydicom.dcmread(file)
        if syntax in (uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless):
            made.compress(syntax, generate_instance_uid=False)
        else:
            made.file_meta.TransferSyntaxUID = syntax
        made.save_as(file, implicit_vr=syntax == uid.ImplicitVRLittleEndian)


SYNTAXES = ["RLELossless", "JPEGLSLossless", "JPEG2000Lossless"]
PLAIN = ["ImplicitVRLittleEndian", "DeflatedExplicitVRLittleEndian"]


@both
@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
@pytest.mark.parametrize("name", [*SYNTAXES, *PLAIN])
def test_compressed_values_come_back_bit_for_bit(tmp_path, write, name, dtype):
    stored = random_values((3, 36, 40), dtype=dtype, high=2000)
    write(tmp_path, stored, bits=12)
    compressed(tmp_path, getattr(uid, name))
    np.testing.assert_array_equal(read_volume(tmp_path).array, stored.astype(int) - 1024)


@both
@pytest.mark.parametrize("name", ["ExplicitVRLittleEndian", *SYNTAXES])
def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path, write, name):
    write(tmp_path, random_values((3, 36, 40)))
    if name in SYNTAXES:
        compressed(tmp_path, getattr(uid, name))
    file = sorted(tmp_path.iterdir())[-1]
    whole = file.read_bytes()
    for end in (0, 60, 140, len(whole) // 4, len(whole) // 2, len(whole) - 40, len(whole) - 9):
        file.write_bytes(whole[:end])
        with pytest.raises(PipelineError):
            read_volume(tmp_path)


def test_a_slice_cut_within_its_header_is_not_taken_for_another_kind_of_series(tmp_path):
    write_slices(tmp_path, random_values((3, 36, 40)))
    whole = (tmp_path / "001.dcm").read_bytes()
    for tag in (b"\x28\0\x11\0", b"\x28\0\x30\0", b"\x28\0\x52\x10", b"\xe0\x7f\x10\0"):
        (tmp_path / "001.dcm").write_bytes(whole[: whole.index(tag)])
        refused(tmp_path, r"001.dcm: (DICOM that ends before|CT Image without size)")


def test_a_decoder_that_panics_is_one_line_of_its_file(tmp_path):
    """What a decoder in Rust raises is no Exception; here, by the wrong start of a segment."""
    write_slices(tmp_path, random_values((2, 16, 16)))
    compressed(tmp_path, uid.RLELossless)
    file = min(tmp_path.iterdir())
    content = bytearray(file.read_bytes())
    content[content.index(b"\x02\0\0\0\x40\0\0\0") + 8] ^= 0x55
    file.write_bytes(content)
    with pytest.raises(PipelineError, match=r"000.dcm: damaged or truncated \(index out of bounds"):
        read_volume(tmp_path)
