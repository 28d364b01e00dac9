"""A network that drops parts out at random: to the same bits after a stop."""

import shutil

from pipeline import train_segmentation as stage
from pipeline.settings import Experiment
from pipeline.storage.folders import folder_of
from tests.pipeline.results import RESOURCES, SLICES, TRAINING
from tests.pipeline.trainings import SEED, assert_same, killed_before_epoch, weights

SWIN = Experiment(model="swin_unet", width=2, training=TRAINING)
WINDOWED = SLICES.model_copy(update={"size": (64, 64)})


def trained(layout):
    stage.train_segmentation(layout, "swin", 1, SWIN, 0, WINDOWED, SEED, RESOURCES)
    return layout.model("swin", 1)


def test_a_stopped_training_drops_out_as_before(ingested):
    whole = weights(trained(ingested))
    shutil.rmtree(folder_of(ingested.model("swin", 1)))
    with killed_before_epoch(1):
        trained(ingested)
    assert_same(whole, weights(trained(ingested)))
