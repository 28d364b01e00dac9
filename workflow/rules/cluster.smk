"""What jobs ask a cluster for, and what a run that was killed has left there."""

from pipeline.leftover_jobs import cancel_leftover_jobs

# With `--profile`, the default profile holds beside the cluster's, which puts cards out of its reach;
# its number of cores, too, is that of this machine.
if workflow.is_main_process and workflow.resource_scopes.is_local("gpu"):
    workflow.resource_settings.cores = None
    for limit in ("_cores", "gpu"):
        workflow.global_resources[limit] = None


def memory_mb(wildcards, attempt):
    return attempt * SETTINGS.resources.memory_mb


def minutes(wildcards, attempt):
    return attempt * SETTINGS.resources.minutes


def comment_of(job):
    """What Snakemake's SLURM executor gives as a job's comment."""
    return f"rule_{job.rule.name}_wildcards_{'_'.join(job.wildcards).replace('/', '_')}"


# Two jobs must not write into one training's folder. This runs after Snakemake has taken its lock.
onstart:
    if not workflow.local_exec:
        wanted = {comment_of(job) for job in workflow.dag.needrun_jobs()}
        try:
            for job in cancel_leftover_jobs(workflow.workdir_init, wanted):
                logger.info(f"cancelled, as a run that was killed has left it: SLURM job {job}")
        except PipelineError as error:
            sys.exit(f"error: {error}")
