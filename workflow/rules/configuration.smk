"""The configuration, validated once, and what every rule takes from it."""

import functools
import json
import re
import shlex

from snakemake.common.configfile import load_configfile

from pipeline.errors import PipelineError
from pipeline.settings import stage_settings
from pipeline.settings.reading import merge, read_configuration, validate
from pipeline.storage.layout import Layout, stage_version
from pipeline.storage.residual_store import maps_there


def or_exit(function, *arguments):
    """What `function` returns; a user's fault ends the call with its one line.

    A WorkflowError would bury that line in the workflow's own file names and frames.
    """
    try:
        return function(*arguments)
    except (PipelineError, OSError) as error:
        sys.exit(f"error: {fault_line(error)}")


def fault_line(fault):
    """A fault in one line; a fault of the machine, such as a closed folder, names the path."""
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

# Every command reads the same file with the same overrides, wherever the job runs.
CONFIG = f"--config {shlex.quote(str(CONFIG_FILES[0]))}"
if OVERRIDES:
    CONFIG += f" --set {shlex.quote(json.dumps(OVERRIDES))}"

# Neither the paths nor the names of the configuration decide whether a job runs again, so this is
# part of the command and no parameter.
CONFIG = CONFIG.replace("{", "{{").replace("}", "}}")

RESULTS = Path(SETTINGS.results)
LAYOUT = Layout(RESULTS, "{dataset}")
LAYOUTS = {dataset: Layout(RESULTS, dataset) for dataset in SETTINGS.datasets}
# Whether residual maps are given back, and the files that stand for those of a batch meanwhile.
GIVES_BACK = SETTINGS.store.gives_back
MAPS_THERE = [temp(str(maps_there(LAYOUT, "{residuals}", "{batch}")))] if GIVES_BACK else []
LOGS = LAYOUT.stage("logs")
BENCHMARKS = LAYOUT.stage("benchmarks")


wildcard_constraints:
    dataset="|".join(map(re.escape, SETTINGS.datasets)),
    mae=r"[\w+-]+(/fold-\d+)?",
    residuals=r"[\w+-]+(/fold-\d+)?",
    experiment=r"[\w+-]+(/repeat-\d+)?",
    table=r"[\w+-]+",
    figure=r"[\w+-]+",
    subset=r"\d+",
    batch=r"(/batch-\d+of\d+)?",  # of stages that one job does where there are few cases


def command(verb):
    """The shell line of a rule: a stage's command, on the terminal and in the log."""
    return f"python -m pipeline {verb} --dataset {{wildcards.dataset}} {CONFIG} 2>&1 | tee -i -- {{log:q}}"


def batch_of(wildcards):
    """The name of a job's batch; "" of one for all cases."""
    return re.search(r"(\d+of\d+)?$", wildcards.get("batch", ""))[0]


def batch_option(wildcards, output):
    """The option for a job's batch. As it takes `output`, Snakemake records no change of it."""
    return f"--batch {name}" if (name := batch_of(wildcards)) else ""


def settings_of(stage, kind=None, also=lambda wildcards: {}):
    """The part of the settings that a stage's result depends on, as a params function."""

    def chosen(wildcards):
        name = wildcards[kind] if kind else ""
        settings = stage_settings(SETTINGS, stage, wildcards.dataset, name)
        return {**settings, **also(wildcards)}

    return chosen


def shown_in_report(category, *names):
    """Where a result stands in the page of `snakemake --report`."""
    labels = {name: f"{{{name}}}" for name in ("dataset", *names)}
    return {"category": category, "labels": labels}
