"""The configuration: every key, its type, its range and its default.

A configuration file names data sets; each data set holds the sections that its stages read. A
stage's result depends on exactly the dictionary that `stage_settings` returns for it.

This room imports only `pipeline.errors`; every other room may import it. It needs no torch and
opens no image, so the workflow can read settings before any job starts.

- `section`: the base of all sections, and the types of their values.
- `data`: sections about data: source, slices, split, masks and scores.
- `method`: sections about the method: masked models, networks and their training.
- `residual_sets`: which residual maps a set holds, and what its presets fill in.
- `resources`: what a job may use; nothing in it changes a result.
- `score_columns`: the columns of comparison tables.
- `tables`: tables of chosen experiments beside published figures.
- `model`: the whole configuration, and the checks across sections.
- `paths`: the files and folders that a configuration names.
- `stage_settings`: the part of the configuration that a stage's result depends on.
- `reading`: reads a file, and explains its faults.
- `schema`: writes the JSON schema for editors.

The package re-exports what other rooms use most.
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
    Mae,
    MaeEncoder,
    Plateau,
    Rcu,
    Training,
)
from pipeline.settings.model import Dataset, Settings
from pipeline.settings.paths import further_images, source_root, store_root
from pipeline.settings.residual_sets import GradCam, MaskScheme, ResidualMap, Residuals
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
