"""How a call begins and ends, and what Snakemake tells: less of its own doings, and last of all
what failed and why."""

import atexit
import re

from snakemake.common import NOTHING_TO_BE_DONE_MSG
from snakemake.logging import logger
from snakemake_interface_logger_plugins.common import LogEvent

from pipeline.orchestration.failed_job import failure_lines

INPUTS_TOLD = 3  # of a failed job: an ingest has two for every patient
# log of a failed job → its stage and how it ended, and SLURM's own log of it, where there is one; a
# job that is tried again and succeeds stays here
FAILED = {}
TOLD = {}  # number of a job → its message, until it has ended


def brief(record):
    """Whether a message is worth telling; those of failed jobs are noted, and shortened."""
    event = getattr(record, "event", None)
    if event == LogEvent.JOB_INFO:
        TOLD[record.jobid] = record.rule_msg
    if event == LogEvent.JOB_FINISHED and (told := TOLD.pop(record.job_id, None)):
        record.msg = f"Finished {told}"
    if event == LogEvent.JOB_ERROR:
        # FAILED says no more than the stage's own last words, unlike TIMEOUT or OUT_OF_MEMORY
        state = re.search(r"SLURM status is: '(?!FAILED)(\w+)'", record.rule_msg or "")
        by = f" on the cluster, {state[1]}" if state else ""
        for log in record.log[:1]:
            FAILED[log] = f"{record.rule_name} failed{by}", record.log[1:]
        further = len(record.input) - INPUTS_TOLD
        if further > 0:
            record.input = [*record.input[:INPUTS_TOLD], f"and {further} more"]
    # of such a call no hook is called
    nothing = record.getMessage().startswith(NOTHING_TO_BE_DONE_MSG)
    if nothing and not workflow.dryrun and not UNWRITABLE:
        end_call()
    # advice to spoil the records that a plan rests on
    spoiling = record.getMessage().startswith("Some jobs were triggered by provenance")
    # the whole shell line again, with all that makes it run anywhere
    repeated = record.getMessage().startswith("RuleException:\nCalledProcessError")
    idle = event == LogEvent.JOB_STARTED or record.getMessage() == "Select jobs to execute..."
    return not repeated and not idle and not spoiling


def plan_of_call():
    """The jobs of this call, as the stages call what they work on."""
    due, planned = set(workflow.dag.needrun_jobs(exclude_finished=False)), []
    for job in workflow.dag.jobs:
        names = [value for name, value in job.wildcards.items() if name != "dataset"]
        if "dataset" in job.wildcards.keys():
            work, outputs = " ".join([job.rule.name, *names]), frozenset(map(Path, job.output))
            planned.append(Planned(job.wildcards.dataset, work, outputs, job in due))
    return Plan(planned, whole=any(job.rule.name == "all" for job in workflow.dag.jobs))


def end_call():
    for line in or_exit(list, CALL.finish(plan_of_call())):
        logger.info(line)


def tell_failures():
    """Snakemake ends with where its own files lie; this comes after it."""
    for log, (failure, others) in FAILED.items():
        told = failure_lines(Path(log), *map(Path, others))
        print("", f"{failure} ({log}):", *told, sep="\n", file=sys.stderr)


if workflow.is_main_process:
    logger.addFilter(brief)


onstart:
    if workflow.is_main_process:
        if UNWRITABLE:
            sys.exit(f"error: {UNWRITABLE}")
        plan = plan_of_call()
        if UNSHARED and any(
            one.due and one.work.startswith("residual_maps ") for one in plan.jobs
        ):
            sys.exit(f"error: {UNSHARED}")
        or_exit(CALL.lock)
        or_exit(prepare_cluster)
        for line in or_exit(list, CALL.prepare(plan)):
            logger.info(line)


onsuccess:
    end_call()


onerror:
    atexit.register(tell_failures)
