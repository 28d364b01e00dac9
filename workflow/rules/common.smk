"""Settings, paths and inputs that several rules share."""

import functools
import json
import re
import shlex

from snakemake.common.configfile import load_configfile
from snakemake.io import IOFile

from pipeline.planning import preflight
from pipeline.orchestration import job_files as targets
from pipeline.orchestration.call import Call, Plan, Planned
from pipeline.settings.paths import checkpoint_files
from pipeline.settings.reading import merge, read_configuration, validate
from pipeline.datasets import ListingError
from pipeline.datasets.cases import list_files, source_files
from pipeline.errors import PipelineError
from pipeline.orchestration.last_run import results_there
from pipeline.storage.layout import Layout, batch_names
from pipeline.datasets.configured import planned_cases
from pipeline.settings import further_images, source_root, stage_settings
from pipeline.storage.layout import stage_version


def or_exit(check, *arguments):
    """What a function gives; a user's fault ends in the line that tells it.

    A WorkflowError would bury it in the workflow's own file names and frames.
    """
    try:
        return check(*arguments)
    except (PipelineError, OSError) as error:
        sys.exit(f"error: {told(error)}")


def told(fault):
    """A fault in one line; the machine's, such as a folder that may not be entered, too."""
    if isinstance(fault, OSError):
        where = f"{fault.filename}: " if fault.filename else ""
        return f"{where}{fault.strerror or fault}; correct the path, its rights or its disk"
    return str(fault)


CONFIG_FILES = [Path(file) for file in workflow.config_settings.configfiles] or [DEFAULT_CONFIG]
for file in CONFIG_FILES:
    or_exit(read_configuration, file)
# What was given beside the first file: further files, then --config.
OVERRIDES = functools.reduce(
    merge,
    [*map(load_configfile, CONFIG_FILES[1:]), workflow.config_settings.config],
    {},
)
SETTINGS = or_exit(validate, config, " + ".join(map(str, CONFIG_FILES)))

# What every command is told: the same file and the same overrides, wherever the job runs.
CONFIG = f"--config {shlex.quote(str(CONFIG_FILES[0]))}"
if OVERRIDES:
    CONFIG += f" --set {shlex.quote(json.dumps(OVERRIDES))}"

# Neither the paths nor the names of the configuration decide whether a job runs again, so this is
# part of the command and no parameter.
CONFIG = CONFIG.replace("{", "{{").replace("}", "}}")

RESULTS = Path(SETTINGS.results)
LAYOUT = Layout(RESULTS, "{dataset}")
LAYOUTS = {dataset: Layout(RESULTS, dataset) for dataset in SETTINGS.datasets}
LOGS = LAYOUT.stage("logs")
BENCHMARKS = LAYOUT.stage("benchmarks")


def partitions_named():
    """What the profile or the command line gives as SLURM partitions."""
    given = workflow.resource_settings
    groups = [given.default_resources or {}, *given.overwrite_resources.values()]
    named = [group["slurm_partition"].raw for group in groups if "slurm_partition" in group]
    return [str(one) for one in named]


def pretrained(dataset):
    """The MAEs that start from given weights."""
    maes = SETTINGS.datasets[dataset].mae
    return [name for name, settings in maes.items() if settings.checkpoint]


# Why nothing can be written, or None: an archive may still be planned and reported on.
UNWRITABLE = None
# Why no residual store can be shared, or None: refused where one is to be made.
UNSHARED = None


if workflow.is_main_process:
    UNWRITABLE = or_exit(preflight.results_fault, RESULTS)
    UNSHARED = or_exit(preflight.store_fault, SETTINGS)
    if unchecked := or_exit(preflight.check_partitions, partitions_named()):
        logger.warning(unchecked)
    CALL = Call(LAYOUTS.values(), {dataset: pretrained(dataset) for dataset in LAYOUTS})
    # what was found unchanged is noted on the disk
    found = [UNWRITABLE] if UNWRITABLE else or_exit(list, CALL.before_plan())
    for line in [*filter(None, [UNSHARED]), *found]:
        logger.info(line)


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
    return f"python -m pipeline {verb} --dataset {{wildcards.dataset}} {CONFIG} 2>&1 | tee -i {{log:q}}"


def shown_in_report(category, *names):
    """Where a result stands in the page of `snakemake --report`."""
    labels = {name: f"{{{name}}}" for name in ("dataset", *names)}
    return {"category": category, "labels": labels}


def settings_of(stage, kind=None):
    """The part of the settings that a stage's result depends on, as a params function."""

    def chosen(wildcards):
        name = wildcards[kind] if kind else ""
        return stage_settings(SETTINGS, stage, wildcards.dataset, name)

    return chosen


def brought(dataset):
    """Results of which Snakemake has recorded no job: they were put there by hand."""
    known = workflow.persistence.metadata
    paths = map(str, results_there(LAYOUTS[dataset]))
    return [path for path in paths if not known(IOFile(path))]


@functools.cache
def source_cases(dataset):
    """The cases of a data set; that they can be listed and split is known before one is read."""
    chosen = SETTINGS.datasets[dataset]
    try:
        try:
            cases = planned_cases(SETTINGS, dataset)
        except ListingError as error:
            if chosen.source.on_error != "skip" or not error.cases:
                raise
            cases = error.cases  # ingest sets the others aside, and tells of them
        if workflow.is_main_process:
            preflight.check_split(chosen, cases, SETTINGS.seed)
            preflight.check_units(chosen, cases)
    except (PipelineError, OSError) as error:
        sys.exit(f"error: data set {dataset}: {told(error)}")
    return cases


def known(wildcards):
    """The data set that a job is about; a job about a name that it does not have is refused."""
    or_exit(preflight.check_names, SETTINGS, dict(wildcards))
    return SETTINGS.datasets[wildcards.dataset]


def raw_files(wildcards):
    """The images and lists that ingest reads, or the truth that is written after the last phantom."""
    if workflow.is_main_process:
        # Every plan asks here, and has no other place for it: settings of a call are frozen, and
        # Snakemake decides what has to run after all inputs are known.
        workflow.dag.forcefiles.update(map(str, CALL.due))
        if not UNWRITABLE:
            workflow.dag.forcefiles.update(brought(wildcards.dataset))
    if SETTINGS.datasets[wildcards.dataset].source.phantom:
        further = further_images(SETTINGS, wildcards.dataset)
        source_cases(wildcards.dataset)
        return [LAYOUTS[wildcards.dataset].phantom_truth, *further]
    root = source_root(SETTINGS, wildcards.dataset)
    images = [file for case in source_cases(wildcards.dataset) for file in source_files(case)]
    return [*list_files(root), *images]


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
    """The weights that a MAE starts from."""
    given = known(wildcards).mae[wildcards.mae].checkpoint
    return or_exit(checkpoint_files, Path(given)) if given else []


def residual_models(wildcards):
    chosen = known(wildcards)
    if workflow.is_main_process and wildcards.batch not in batches(wildcards.dataset):
        one_of = ", ".join(batches(wildcards.dataset)[:INPUTS_TOLD])
        sys.exit(
            f"error: data set {wildcards.dataset}: there is no batch {wildcards.batch} with "
            f"resources.cases_per_job {SETTINGS.resources.cases_per_job}; the first are: {one_of}"
        )
    return targets.models_behind(LAYOUTS[wildcards.dataset], chosen, wildcards.residuals)


@functools.cache
def batches(dataset):
    """Names of the batches of a data set's residual sets; they follow from its cases alone."""
    return batch_names(len(source_cases(dataset)), SETTINGS.resources.cases_per_job)


def experiment_residuals(wildcards):
    residuals = known(wildcards).experiments[wildcards.experiment].residuals
    if residuals is None:
        return []
    layout = LAYOUTS[wildcards.dataset]
    return [layout.residual_batch(residuals, batch) for batch in batches(wildcards.dataset)]


def experiment_mae(wildcards):
    """The MAE whose encoder a network starts from."""
    encoder = SETTINGS.datasets[wildcards.dataset].experiments[wildcards.experiment].mae_encoder
    return [LAYOUTS[wildcards.dataset].mae(encoder.mae)] if encoder else []


def experiments_of(wildcards):
    """The experiments that a job is about: its own, those of its table, or all."""
    chosen = known(wildcards)
    if "experiment" in wildcards.keys():
        return [wildcards.experiment]
    if "table" in wildcards.keys():
        return targets.table_experiments(chosen.tables[wildcards.table])
    return list(chosen.experiments)


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
    return asked_for(targets.everything)


def wanted_tables(wildcards):
    """Every table of chosen experiments, and every manifest on the way to it."""
    paths = asked_for(targets.tables_alone)
    if not paths:
        sys.exit(
            "error: configuration: found no datasets.<name>.tables, expected at least one; "
            "config/ablations.yaml has some"
        )
    return paths


def asked_for(paths):
    """Paths of all data sets; a disk that is too small for their stores is told."""
    if workflow.is_main_process and not UNWRITABLE and not UNSHARED:
        cases = {dataset: source_cases(dataset) for dataset in SETTINGS.datasets}
        for warning in or_exit(preflight.check_disk, SETTINGS, cases):
            logger.warning(warning)
    return [
        path
        for dataset, chosen in SETTINGS.datasets.items()
        for path in paths(LAYOUTS[dataset], chosen, batches(dataset))
    ]
