"""Settings, paths and inputs that several rules share."""

import functools
import json
import os
import re
import shlex

from snakemake.common.configfile import load_configfile
from snakemake.settings.types import DeploymentMethod

from pipeline.checkpoint_files import checkpoint_files
from pipeline.configuration import merge, validate
from pipeline.datasets import ListingError, list_cases
from pipeline.errors import PipelineError
from pipeline.layout import Layout, batch_names
from pipeline.manifests import withdraw_untrue
from pipeline.settings import GradCam, further_images, source_root, stage_settings
from pipeline.versions import stage_version

CONFIG_FILES = [Path(file) for file in workflow.config_settings.configfiles] or [DEFAULT_CONFIG]
# What was given beside the first file: further files, then --config.
OVERRIDES = functools.reduce(
    merge,
    [*map(load_configfile, CONFIG_FILES[1:]), workflow.config_settings.config],
    {},
)
# A user's fault ends in the line that tells it; a WorkflowError would bury it in the workflow's own
# file names and frames.
try:
    SETTINGS = validate(config, " + ".join(map(str, CONFIG_FILES)))
except PipelineError as error:
    sys.exit(f"error: {error}")

# What every command is told: the same file and the same overrides, wherever the job runs.
CONFIG = f"--config {shlex.quote(str(CONFIG_FILES[0]))}"
if OVERRIDES:
    CONFIG += f" --set {shlex.quote(json.dumps(OVERRIDES))}"

# Neither the paths nor the names of the configuration decide whether a job runs again, so this is
# part of the command and no parameter.
CONFIG = CONFIG.replace("{", "{{").replace("}", "}}")

# A conda environment holds what a stage imports, but not this package; and it brings its own
# python, while without one the python that runs Snakemake is the one.
PREFIX = f"export PYTHONPATH={shlex.quote(str(CHECKOUT))}${{PYTHONPATH:+:$PYTHONPATH}}; "
if DeploymentMethod.CONDA not in workflow.deployment_settings.deployment_method:
    PREFIX += f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH; "
shell.prefix("set -euo pipefail; " + PREFIX.replace("{", "{{").replace("}", "}}"))

RESULTS = Path(SETTINGS.results)
LAYOUT = Layout(RESULTS, "{dataset}")
LAYOUTS = {dataset: Layout(RESULTS, dataset) for dataset in SETTINGS.datasets}
LOGS = LAYOUT.stage("logs")
BENCHMARKS = LAYOUT.stage("benchmarks")

if workflow.is_main_process:
    nearest = next(folder for folder in [RESULTS, *RESULTS.absolute().parents] if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        sys.exit(
            f"error: results {RESULTS}: {nearest} is no writable folder; choose another `results`"
        )

# Stores are not declared, so Snakemake does not miss them; their manifests speak for them.
if workflow.is_main_process:
    for manifest in withdraw_untrue(RESULTS):
        logger.info(f"withdrawn, because what it lists is not there: {manifest}")


wildcard_constraints:
    dataset="|".join(map(re.escape, SETTINGS.datasets)),
    mae=r"[\w+-]+",
    residuals=r"[\w+-]+",
    experiment=r"[\w+-]+",
    table=r"[\w+-]+",
    subset=r"\d+",
    batch=r"\d+of\d+",


def command(verb):
    """The shell line of a rule: a stage's command, on the terminal and in the log."""
    return (
        f"python -m pipeline {verb} --dataset {{wildcards.dataset}} {CONFIG} 2>&1 | tee {{log:q}}"
    )


def settings_of(stage, kind=None):
    """The part of the settings that a stage's result depends on, as a params function."""

    def chosen(wildcards):
        name = wildcards[kind] if kind else ""
        return stage_settings(SETTINGS, stage, wildcards.dataset, name)

    return chosen


@functools.cache
def source_cases(dataset):
    source = SETTINGS.datasets[dataset].source
    try:
        further = further_images(SETTINGS, dataset)
        return list_cases(source.adapter, source_root(SETTINGS, dataset), further)
    except ListingError as error:
        if error.cases:
            # ingest tells of the others, with all that is wrong with the images, or sets them aside
            return error.cases
        sys.exit(f"error: data set {dataset}: {error}")
    except PipelineError as error:
        sys.exit(f"error: data set {dataset}: {error}")


def raw_files(wildcards):
    """The images and lists that ingest reads, or the truth that is written after the last phantom."""
    if SETTINGS.datasets[wildcards.dataset].source.phantom:
        further = further_images(SETTINGS, wildcards.dataset)
        return [LAYOUTS[wildcards.dataset].phantom_truth, *further]
    from pipeline.ingest import source_files

    root = source_root(SETTINGS, wildcards.dataset)
    lists = [root, root / "manifest.csv", root / "dataset.json"]
    images = [file for case in source_cases(wildcards.dataset) for file in source_files(case)]
    return [*filter(Path.is_file, lists), *images]


def phantom_arguments(wildcards):
    """Kind, folder and options of the command that writes a data set's phantoms."""
    phantom = SETTINGS.datasets[wildcards.dataset].source.phantom
    if phantom is None:
        sys.exit(f"error: data set {wildcards.dataset} has no source.phantom to write")
    folder = LAYOUTS[wildcards.dataset].phantom_truth.parent
    shape = ["--shape", *map(str, phantom.shape)] if phantom.shape else []
    numbers = {
        "--cases": phantom.cases,
        "--seed": phantom.seed,
        "--unlabelled": phantom.unlabelled,
    }
    options = [str(part) for option in numbers.items() for part in option]
    return shlex.join([phantom.kind, str(folder), *options, *shape])


def pretrained_checkpoint(wildcards):
    """The weights that a MAE starts from; where they are missing, its stage says so best."""
    given = SETTINGS.datasets[wildcards.dataset].mae[wildcards.mae].checkpoint
    try:
        return checkpoint_files(Path(given)) if given else []
    except PipelineError:
        return []


def residual_models(wildcards):
    return models_behind(wildcards.dataset, wildcards.residuals)


def models_behind(dataset, residuals):
    """Manifests of the models that make a residual set: MAEs, or the networks of Grad-CAM."""
    layout, chosen = LAYOUTS[dataset], SETTINGS.datasets[dataset]
    settings = chosen.residuals[residuals]
    if isinstance(settings, GradCam):
        return [layout.model(settings.grad_cam, one) for one in chosen.subsets_with(residuals)]
    return [layout.mae(mae) for mae in sorted({one.mae for one in settings.maps})]


@functools.cache
def residual_batches(dataset, residuals):
    """Manifests of all batches of a residual set; their number follows from the cases alone."""
    phantom = SETTINGS.datasets[dataset].source.phantom
    further = len(SETTINGS.datasets[dataset].source.also_predict)
    known = phantom and phantom.cases + phantom.unlabelled + further
    cases = known or len(source_cases(dataset))
    batches = batch_names(cases, SETTINGS.resources.cases_per_job)
    return [LAYOUTS[dataset].residual_batch(residuals, batch) for batch in batches]


def experiment_residuals(wildcards):
    residuals = SETTINGS.datasets[wildcards.dataset].experiments[wildcards.experiment].residuals
    return residual_batches(wildcards.dataset, residuals) if residuals else []


def experiment_mae(wildcards):
    """The MAE whose encoder a network starts from."""
    encoder = SETTINGS.datasets[wildcards.dataset].experiments[wildcards.experiment].mae_encoder
    return [LAYOUTS[wildcards.dataset].mae(encoder.mae)] if encoder else []


def experiments_of(wildcards):
    """The experiments that a job is about: its own, those of its table, or all."""
    chosen = SETTINGS.datasets[wildcards.dataset]
    if "experiment" in wildcards.keys():
        return [wildcards.experiment]
    if "table" in wildcards.keys():
        return table_experiments(chosen.tables[wildcards.table])
    return list(chosen.experiments)


def table_experiments(table):
    return list(dict.fromkeys(row.experiment for row in table.rows))


def subset_files(path):
    """Files of every subset of a job's experiments, as an input function."""

    def files(wildcards):
        chosen = SETTINGS.datasets[wildcards.dataset]
        of = getattr(LAYOUTS[wildcards.dataset], path)
        return [
            of(experiment, subset)
            for experiment in experiments_of(wildcards)
            for subset in chosen.subsets_of(experiment)
        ]

    return files


def experiment_files(path):
    """Files of a job's experiments, as an input function."""

    def files(wildcards):
        of = getattr(LAYOUTS[wildcards.dataset], path)
        return [of(experiment) for experiment in experiments_of(wildcards)]

    return files


def wanted(wildcards):
    """Every report and table, and every manifest on the way to it."""
    return [
        path
        for dataset, chosen in SETTINGS.datasets.items()
        for path in [
            *manifests_of(dataset, list(chosen.experiments)),
            *tables_of(dataset),
            LAYOUTS[dataset].report,
        ]
    ]


def wanted_tables(wildcards):
    """Every table of chosen experiments, and every manifest on the way to it."""
    paths = []
    for dataset, chosen in SETTINGS.datasets.items():
        if chosen.tables:
            rows = [name for table in chosen.tables.values() for name in table_experiments(table)]
            paths += [*manifests_of(dataset, list(dict.fromkeys(rows))), *tables_of(dataset)]
    if not paths:
        sys.exit(
            "error: configuration: found no datasets.<name>.tables, expected at least one; "
            "config/ablations.yaml has some"
        )
    return paths


def tables_of(dataset):
    """Pages of a data set's tables of chosen experiments."""
    return [
        LAYOUTS[dataset].chosen_table(table, ".md") for table in SETTINGS.datasets[dataset].tables
    ]


def manifests_of(dataset, experiments):
    """Every manifest on the way to the experiments' scores.

    Snakemake does not miss a file between others that are up to date, unless it is asked for; and
    a withdrawn manifest has to be missed.
    """
    layout, chosen = LAYOUTS[dataset], SETTINGS.datasets[dataset]
    used = [chosen.experiments[name].residuals for name in experiments]
    residuals = sorted({name for name in used if name})
    encoders = [chosen.experiments[name].mae_encoder for name in experiments]
    models = {path for name in residuals for path in models_behind(dataset, name)}
    models |= {layout.mae(one.mae) for one in encoders if one}
    return [
        layout.cases,
        *sorted(models),
        *(path for name in residuals for path in residual_batches(dataset, name)),
        *(
            path(experiment, subset)
            for path in (layout.model, layout.predictions, layout.masks)
            for experiment in experiments
            for subset in chosen.subsets_of(experiment)
        ),
    ]
