"""The epochs of a training only remember: what is damaged is left out, and nothing stops."""

import pytest

from pipeline.errors import PipelineError
from pipeline.networks.history import epochs_of, read_history
from pipeline.networks.resume import prepare_folder
from pipeline.networks.trainer import EpochHistory
from pipeline.storage.files import write_json
from tests.pipeline.damages import DAMAGES

LINES = ["epoch,train_loss,validation_loss,learning_rate,seconds", "0,4,4,1,1", "1,3,3,1,1"]


class Trainer:
    is_global_zero, current_epoch, max_epochs = True, 2, 3
    callback_metrics = {"train_loss": 2.0, "validation_loss": 2.0}  # noqa: RUF012
    optimizers = [type("SGD", (), {"param_groups": [{"lr": 1.0}]})]  # noqa: RUF012


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_training_goes_on_beside_a_damaged_history(tmp_path, damage):
    path = tmp_path / "history.csv"
    path.write_text("\n".join(LINES))
    DAMAGES[damage](path)
    history = EpochHistory(path, "unet")
    history.on_train_start(Trainer)
    history.on_train_epoch_start()
    history.on_train_epoch_end(Trainer)
    rows = read_history(path)
    assert rows[-1]["epoch"] == 2
    assert epochs_of(rows) == 3, "though rows of earlier ones may be lost"


def test_only_rows_of_whole_numbers_are_kept(tmp_path, caplog):
    path = tmp_path / "history.csv"
    path.write_text("\n".join([*LINES, "nan,1,1,1,1", "2,x,1,1,1", "2,1", '"', "3,1,1,1,1"]))
    assert [row["epoch"] for row in read_history(path)] == [0, 1, 3]
    assert caplog.messages == [f"{path}: damaged, 3 of 7 rows are left"]
    path.write_text("\n".join([*LINES, "2,1.2"]))  # of a killed training, no word
    assert epochs_of(read_history(path)) == 2
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_training_of_which_nobody_knows_the_inputs_is_left_to_a_person(tmp_path, damage):
    write_json(tmp_path / "started.json", {"fingerprint": "f"})
    last = tmp_path / "checkpoints" / "last.ckpt"
    last.parent.mkdir()
    last.write_bytes(b"days of work")
    DAMAGES[damage](tmp_path / "started.json")
    with pytest.raises(PipelineError, match=r"started\.json: .*delete it and run again"):
        prepare_folder(tmp_path, "f", last)
    assert last.exists()
