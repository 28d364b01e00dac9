"""The one configuration model: every key, its type, its range and its default.

A configuration file names data sets; each data set holds the sections that its stages read. What a
stage's result depends on is exactly the dictionary that `stage_settings` returns for it.
"""

from pipeline.settings.data import (
    QUANTILES,
    Evaluation,
    Phantom,
    Postprocess,
    Slices,
    Source,
    Split,
)
from pipeline.settings.method import (
    Adversarial,
    Experiment,
    Gcu,
    GradCam,
    Mae,
    MaeEncoder,
    MaskScheme,
    Plateau,
    Rcu,
    ResidualMap,
    Residuals,
    Training,
)
from pipeline.settings.model import Dataset, Settings
from pipeline.settings.paths import further_images, source_root, store_root
from pipeline.settings.resources import Resources, TrainingResources
from pipeline.settings.section import Section
from pipeline.settings.stage_settings import encoder_mae, residual_count, stage_settings
from pipeline.settings.tables import COSTS, Table

__all__ = [
    "COSTS",
    "QUANTILES",
    "Adversarial",
    "Dataset",
    "Evaluation",
    "Experiment",
    "Gcu",
    "GradCam",
    "Mae",
    "MaeEncoder",
    "MaskScheme",
    "Phantom",
    "Plateau",
    "Postprocess",
    "Rcu",
    "ResidualMap",
    "Residuals",
    "Resources",
    "Section",
    "Settings",
    "Slices",
    "Source",
    "Split",
    "Table",
    "Training",
    "TrainingResources",
    "encoder_mae",
    "further_images",
    "residual_count",
    "source_root",
    "stage_settings",
    "store_root",
]
