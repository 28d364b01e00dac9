"""How a call begins and ends, and which of Snakemake's messages it shows: last of all what failed
and why."""

import atexit

from snakemake.common import NOTHING_TO_BE_DONE_MSG
from snakemake.logging import logger
from snakemake_interface_logger_plugins.common import LogEvent

from pipeline.orchestration.call import Call, Plan, Planned
from pipeline.orchestration.failed_job import failure_lines
from pipeline.orchestration.given_back import Batch, GivenBack, note_plan
from pipeline.planning import preflight
from pipeline.planning.folds import fold_note
from pipeline.settings import configured
from pipeline.settings.instances import all_maes
from pipeline.storage.batches import batches_in, parts_of
from pipeline.storage.layout import STAGES

SHOWN_INPUTS = 3  # of a failed job: an ingest has two for every patient
# log of a failed job → its stage and how it ended, and SLURM's own log of it, where there is one; a
# job that is tried again and succeeds stays here
FAILED = {}
RUNNING = {}  # number of a job → its message, until it has ended


def is_worth_showing(record):
    """Whether a message is shown. A failed job is noted, and its list of inputs shortened."""
    event = getattr(record, "event", None)
    if event == LogEvent.JOB_INFO:
        RUNNING[record.jobid] = record.rule_msg
    if event == LogEvent.JOB_FINISHED and (message := RUNNING.pop(record.job_id, None)):
        record.msg = f"Finished {message}"
        give_back_maps()
    if event == LogEvent.JOB_ERROR:
        note_failure(record)
    # Snakemake calls no hook where there is nothing to do
    nothing = record.getMessage().startswith(NOTHING_TO_BE_DONE_MSG)
    if nothing and not workflow.dryrun and not UNWRITABLE:
        finish_call()
    # advice to delete the records that a plan rests on
    advice = record.getMessage().startswith("Some jobs were triggered by provenance")
    # the whole shell line again, with all that makes it run anywhere
    repeated = record.getMessage().startswith("RuleException:\nCalledProcessError")
    idle = event == LogEvent.JOB_STARTED or record.getMessage() == "Select jobs to execute..."
    # told of the stores that it stands for
    temporary = record.getMessage().startswith(("Removing temporary", "Would remove temporary"))
    return not repeated and not idle and not advice and not temporary


def note_failure(record):
    """Remember a failed job's log for the end of the call, and shorten the list of its inputs."""
    # FAILED says no more than the stage's own last lines, unlike TIMEOUT or OUT_OF_MEMORY
    state = re.search(r"SLURM status is: '(?!FAILED)(\w+)'", record.rule_msg or "")
    by = f" on the cluster, {state[1]}" if state else ""
    for log in record.log[:1]:
        FAILED[log] = f"{record.rule_name} failed{by}", record.log[1:]
    further = len(record.input) - SHOWN_INPUTS
    if further > 0:
        record.input = [*record.input[:SHOWN_INPUTS], f"and {further} more"]


def fed_from_elsewhere(layout):
    """Manifests of jobs that read files which no stage makes: given weights or predictions."""
    chosen = SETTINGS.datasets[layout.dataset]
    ingested = batches_in(layout.stage("ingest"))
    if chosen.bundle:  # an input of the job that unpacks it
        return ingested
    maes = [name for name in all_maes(chosen) if chosen.mae[configured(name)].checkpoint]
    trainings = [
        layout.model(name, subset)
        for experiment, settings in chosen.networks.items()
        if settings.pretrained
        for name in chosen.trainings_of(experiment)
        for subset in chosen.subsets_of(experiment)
    ]
    predictions = [
        part
        for name in chosen.experiments
        if name not in chosen.networks
        for subset in chosen.subsets_of(name)
        for part in parts_of(layout.predictions(name, subset))
    ]
    return [*ingested, *map(layout.mae, maes), *trainings, *predictions]


def plan_of_call():
    """The jobs of this call, under the names that the stages give to their work."""
    due, planned = set(workflow.dag.needrun_jobs(exclude_finished=False)), []
    for job in workflow.dag.jobs:
        if "dataset" in job.wildcards.keys():
            dataset, outputs = job.wildcards.dataset, frozenset(map(Path, job.output))
            first = Path(job.output[0])
            stage = job.rule.name.removesuffix("_batch") in STAGES
            work = LAYOUTS[dataset].work_of(first) if stage else job.rule.name
            planned.append(Planned(dataset, work, outputs, job in due))
    return Plan(planned, whole=any(job.rule.name in ("all", "apply") for job in workflow.dag.jobs))


def batches_of_plan():
    """The jobs of this call that make residual maps, where these are given back."""
    due, depending = set(workflow.dag.needrun_jobs(exclude_finished=False)), workflow.dag.depending
    for job in workflow.dag.jobs if GIVES_BACK else ():
        if job.rule.name == "residual_maps":
            there = set(job.temp_output)
            read = any(there.intersection(files) for files in depending[job].values())
            layout = LAYOUTS[job.wildcards.dataset]
            yield Batch(layout, job.wildcards.residuals, job.wildcards.batch, job in due, read)


def give_back_maps():
    """Delete the residual maps that nothing reads any longer, whenever a job has ended."""
    for line in or_exit(list, MAPS.look()):
        logger.info(line)


def start_call():
    """Lock the data sets and prepare what the plan's jobs find, or refuse the call in one line."""
    if UNWRITABLE:
        sys.exit(f"error: {UNWRITABLE}")
    plan = plan_of_call()
    if UNSHARED and any(job.due and job.work.startswith("residual_maps ") for job in plan.jobs):
        sys.exit(f"error: {UNSHARED}")
    or_exit(CALL.lock)
    release_environments()
    or_exit(prepare_cluster)
    for line in or_exit(list, CALL.prepare(plan)):
        logger.info(line)
    if GIVES_BACK:
        for layout in LAYOUTS.values():
            due = [job.work for job in plan.jobs if job.due and job.dataset == layout.dataset]
            or_exit(note_plan, layout, due)
        for line in or_exit(list, MAPS.begin(list(batches_of_plan()))):
            logger.info(line)


def finish_call():
    tidy = functools.partial(MAPS.end, list(batches_of_plan()))
    for line in or_exit(list, CALL.finish(plan_of_call(), tidy)):
        logger.info(line)


def stop_call():
    """Give back what is read by now, and have the next call look at the other maps."""
    if workflow.is_main_process and MAPS.begun:
        for line in or_exit(list, MAPS.end(list(batches_of_plan()), failed=True)):
            logger.info(line)
    atexit.register(print_failures)


def print_failures():
    """Snakemake ends with where its own files lie; this comes after it."""
    for log, (failure, cluster_logs) in FAILED.items():
        lines = failure_lines(Path(log), *map(Path, cluster_logs))
        print("", f"{failure} ({log}):", *lines, sep="\n", file=sys.stderr)


# Why nothing can be written, or None: an archive may still be planned and reported on.
UNWRITABLE = None
# Why no residual store can be shared, or None: refused where one is to be made.
UNSHARED = None
MAPS = GivenBack()


if workflow.is_main_process:
    logger.addFilter(is_worth_showing)
    UNWRITABLE = or_exit(preflight.results_fault, RESULTS)
    UNSHARED = or_exit(preflight.store_fault, SETTINGS)
    CALL = Call(LAYOUTS.values(), fed_from_elsewhere)
    # Snakemake refuses to plan what is due and write-protected: an archive counts as it stands
    lines = [UNWRITABLE] if UNWRITABLE else or_exit(list, CALL.check())
    told = [fold_note(dataset, chosen) for dataset, chosen in SETTINGS.datasets.items()]
    for line in [*filter(None, [UNSHARED, *told]), *lines]:
        logger.info(line)


onstart:
    if workflow.is_main_process:
        start_call()


onsuccess:
    finish_call()


onerror:
    stop_call()
