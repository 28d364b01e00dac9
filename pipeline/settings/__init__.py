"""The configuration: every key, its type, its range and its default.

This room imports only `pipeline.errors`, and no torch; every other room may import it. A stage's
result depends on exactly the dictionary that `stage_settings` returns for it.

- `section`: the base of all sections, the types of their values, and names of repeats.
- `data`: sections about data: source, slices, split, masks and scores.
- `method`: sections about the method: masked models and networks.
- `training`: how networks are trained, and how far trainings vary their slices.
- `recipes`: what others have published: trainings, and weights to start from.
- `residual_sets`: which residual maps a set holds, and what its presets fill in.
- `resources`: what a job may use; nothing in it changes a result.
- `untrained`: experiments without a training: SAM, masks made elsewhere, ensembles of others.
- `tables`: columns of comparison tables; chosen experiments beside published figures.
- `apply`: a trained model applied to a cohort: the section, and the data set that it makes.
- `configuration`: the whole configuration, and the checks across sections.
- `paths`: the files and folders that a configuration names.
- `stage_settings`: the part of the configuration that a stage's result depends on.
- `instances`: which MAE and which residual set serve a subset, where each fold has its own.
- `reading`: reads a file, bounds its size, and explains its faults.
- `write_schema`: writes the JSON schema for editors.

The package re-exports what other rooms use most.
"""

from pipeline.settings.configuration import Dataset as Dataset
from pipeline.settings.configuration import Settings as Settings
from pipeline.settings.data import HEALTHY as HEALTHY
from pipeline.settings.data import INTERNAL as INTERNAL
from pipeline.settings.data import QUANTILES as QUANTILES
from pipeline.settings.data import Evaluation as Evaluation
from pipeline.settings.data import Phantom as Phantom
from pipeline.settings.data import Postprocess as Postprocess
from pipeline.settings.data import Slices as Slices
from pipeline.settings.data import Source as Source
from pipeline.settings.data import Split as Split
from pipeline.settings.data import external_set as external_set
from pipeline.settings.method import Experiment as Experiment
from pipeline.settings.method import Gcu as Gcu
from pipeline.settings.method import Mae as Mae
from pipeline.settings.method import MaeEncoder as MaeEncoder
from pipeline.settings.method import Rcu as Rcu
from pipeline.settings.paths import FurtherImage as FurtherImage
from pipeline.settings.paths import further_images as further_images
from pipeline.settings.paths import source_root as source_root
from pipeline.settings.paths import store_root as store_root
from pipeline.settings.residual_sets import GradCam as GradCam
from pipeline.settings.residual_sets import MaskScheme as MaskScheme
from pipeline.settings.residual_sets import ResidualMap as ResidualMap
from pipeline.settings.residual_sets import Residuals as Residuals
from pipeline.settings.resources import Resources as Resources
from pipeline.settings.resources import TrainingResources as TrainingResources
from pipeline.settings.section import Section as Section
from pipeline.settings.section import configured as configured
from pipeline.settings.section import repeat_name as repeat_name
from pipeline.settings.section import repeat_of as repeat_of
from pipeline.settings.section import repeat_seed as repeat_seed
from pipeline.settings.stage_settings import encoder_mae as encoder_mae
from pipeline.settings.stage_settings import residual_count as residual_count
from pipeline.settings.stage_settings import stage_settings as stage_settings
from pipeline.settings.tables import COSTS as COSTS
from pipeline.settings.tables import Table as Table
from pipeline.settings.training import Adversarial as Adversarial
from pipeline.settings.training import Augment as Augment
from pipeline.settings.training import Plateau as Plateau
from pipeline.settings.training import Training as Training
from pipeline.settings.untrained import AnyExperiment as AnyExperiment
from pipeline.settings.untrained import EnsembleExperiment as EnsembleExperiment
from pipeline.settings.untrained import GivenPredictions as GivenPredictions
from pipeline.settings.untrained import SamExperiment as SamExperiment
from pipeline.settings.untrained import Untrained as Untrained
