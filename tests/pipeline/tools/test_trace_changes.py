"""What has changed since a result was made is told, and what nobody has noted."""

import json
from pathlib import Path

import pytest

from pipeline.storage.files import read_json, write_json
from pipeline.storage.folders import record_of
from tests.pipeline.tools.calls import flat, stage, trace, write_phantoms

pytestmark = pytest.mark.slow


def test_a_raw_file_that_was_edited_afterwards_is_told(results):
    image = sorted(Path("images").rglob("TRV*CTI.*raw"))[0]
    whole = image.read_bytes()
    image.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    code, output = trace(results.table(".csv"))
    assert code == 1
    assert f"  ../{image}: differs" in output.splitlines()
    assert f"../{image} differs, SHA-256" in flat(output)
    image.unlink()
    code, output = trace(results.table(".csv"))
    assert code == 1
    assert f"  ../{image}: gone" in output.splitlines()
    image.write_bytes(whole)
    assert trace(results.table(".csv"))[0] == 0


def test_a_changed_mask_store_or_model_is_told(results):
    test = read_json(results.split)["subsets"]["1"]["test"][0]
    mask = results.mask("grcsf", 1, test, ".mha")
    shard = results.residual_store("mrm", test) / "residual" / "c" / "0" / "0" / "0" / "0"
    model = results.model("plain", 1).with_suffix("") / "model.safetensors"
    for path in (mask, shard, model):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    code, output = trace(results.table(".csv"))
    assert code == 1
    store = results.residual_store("mrm", test)
    changed = [path.relative_to(results.root) for path in (mask, store, model)]
    assert {f"  {path}: differs" for path in changed} == set(
        output.split("recorded:\n")[1].splitlines()
    )
    # nothing is read that is large: all of it is there
    code, output = trace(results.table(".csv"), "--quick")
    assert code == 0, output
    assert "of them were not read (--quick)" in output


def test_scores_of_masks_made_since_are_told(results):
    """A result that was made from other files than lie there now."""
    over = {"datasets": {"heart": {"postprocess": {"probability": 0.999}}}}
    stage("postprocess", "--experiment", "plain", "--set", json.dumps(over))
    code, output = trace(results.table(".csv"))
    assert code == 1
    assert "! heart/postprocess/plain/subset-1.json, which it read: differs" in flat(output)
    stage("evaluate", "--experiment", "plain")
    assert "evaluate/plain.csv, which it read: differs" in flat(trace(results.table(".csv"))[1])
    stage("compare")
    assert trace(results.table(".csv"))[0] == 0


def test_a_record_that_is_missing_or_of_another_format_is_none_and_told_once(results):
    record = record_of(results.masks("grcsf", 1))
    content = record.read_bytes()
    record.unlink()
    code, output = trace(results.table(".csv"))
    assert code == 1
    assert "! heart/postprocess/grcsf/subset-1.json, which it read: no record" in flat(output)
    record.write_bytes(content)
    record = record_of(results.cases)
    write_json(record, {**read_json(record), "format": 2})
    code, output = trace(results.table(".csv"))
    assert code == 1
    assert output.splitlines().count("  heart/ingest/manifest.json: no record") == 1
    assert output.count("1 of ") == 1
    code, error = trace(results.cases)
    assert code == 1
    assert "its record manifest.provenance.json has format 2, expected 1; run its stage" in error


def test_a_damaged_record_is_one_line_and_replaced_by_the_next_run(results):
    record = record_of(results.split)
    content = record.read_bytes()
    for damage in (
        lambda record: record.pop("results"),
        lambda record: next(iter(record["runs"].values())).pop("inputs"),
    ):
        damaged = json.loads(content)
        damage(damaged)
        write_json(record, damaged)
        for file in (results.split, results.table(".csv")):
            code, error = trace(file)
            assert code == 1
            assert f"{record}: damaged, found no whole '" in error
            assert "delete the record and run its stage again" in error
    stage("split")
    assert trace(results.split)[0] == 0


def test_a_file_that_no_record_lists_is_not_said_to_be_as_recorded(results):
    """Nobody knows what it was when its job had ended."""
    store = results.case_store(next(iter(read_json(results.cases)["cases"])))
    mask = results.mask("plain", 1, "OLDCASE", ".mha")
    for path in (mask, store / "image" / "notes.txt"):
        path.write_text("anything")
        name = path.relative_to(results.root)
        for options in ([], ["--quick"]):
            code, output = trace(path, *options)
            assert code == 1
            assert f"{name} no record of its content" in flat(output.partition("\n\n")[0])
            assert output.splitlines()[-1] == f"  {name}: no record of its content"
    assert trace(results.table(".csv"), "--quick")[0] == 0


def test_a_phantom_s_file_is_compared_with_what_was_ingested(results):
    folder = results.phantom_truth.parent
    write_phantoms(folder)
    image = sorted(folder.rglob("TRV*CTI.*raw"))[0]
    assert trace(image)[0] == 1
    source = {"adapter": "orcascore", "root": str(folder)}
    stage("ingest", "--set", json.dumps({"datasets": {"heart": {"source": source}}}))
    code, output = trace(image)
    assert code == 0, output
    assert f"{image.relative_to(results.root)} as recorded" in flat(output)
    assert trace(results.phantom_truth)[0] == 0
    beside = folder / "unrelated.txt"
    beside.write_text("x")
    code, output = trace(beside)
    assert code == 1
    assert output.endswith("unrelated.txt: no record of its content\n")
