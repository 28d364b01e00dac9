"""What jobs ask a cluster for, and what a run that was killed has left there."""

from pipeline.leftover_jobs import cancel_leftover_jobs, comment_of

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


# Two jobs must not write into one training's folder. This runs after Snakemake has taken its lock.
onstart:
    if not workflow.local_exec:
        wanted = {
            comment_of(job.rule.name, job.wildcards) for job in workflow.dag.needrun_jobs()
        }
        try:
            for job in cancel_leftover_jobs(workflow.workdir_init, wanted):
                logger.info(f"cancelled, as a run that was killed has left it: SLURM job {job}")
        except PipelineError as error:
            sys.exit(f"error: {error}")
