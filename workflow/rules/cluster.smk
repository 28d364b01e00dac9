"""What jobs ask a cluster for, and what a run that was killed has left there."""

from pipeline.orchestration.cluster_jobs import job_comment, cancel_leftover_jobs
from pipeline.settings import EnsembleExperiment, GivenPredictions, Untrained, configured

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


def a_card(wildcards):
    """Reconstruction and prediction use one graphics card, however many a training has."""
    return min(1, SETTINGS.resources.gpus)


def training(wildcards):
    """What a training may use: its own resources, or those of every job."""
    chosen = SETTINGS.datasets[wildcards.dataset]
    named = wildcards.keys()
    if "mae" in named:
        return chosen.mae[configured(wildcards.mae)].resources.over(SETTINGS.resources)
    experiment = chosen.experiments[configured(wildcards.experiment)]
    return experiment.resources.over(SETTINGS.resources)


def training_threads(wildcards):
    return training(wildcards).threads


def training_memory_mb(wildcards, attempt):
    return attempt * training(wildcards).memory_mb


def training_minutes(wildcards, attempt):
    return attempt * training(wildcards).minutes


def training_gpus(wildcards):
    return training(wildcards).gpus * training(wildcards).nodes


def training_nodes(wildcards):
    return training(wildcards).nodes


def training_tasks(wildcards):
    """Processes as SLURM's executor takes them: for each card, or in all; 0 leaves it to SLURM."""
    own = training(wildcards)
    return 0 if own.nodes == 1 else 1 if own.gpus else own.nodes


def prediction(wildcards):
    """What a prediction may use: that of SAM and the like, which have no training, their own."""
    chosen = SETTINGS.datasets[wildcards.dataset].experiments[configured(wildcards.experiment)]
    own = isinstance(chosen, Untrained)
    return chosen.resources.over(SETTINGS.resources) if own else SETTINGS.resources


def prediction_threads(wildcards):
    return prediction(wildcards).threads


def prediction_memory_mb(wildcards, attempt):
    return attempt * prediction(wildcards).memory_mb


def prediction_minutes(wildcards, attempt):
    return attempt * prediction(wildcards).minutes


def prediction_gpus(wildcards):
    """A card, but for masks that are given and means of what others have predicted."""
    chosen = SETTINGS.datasets[wildcards.dataset].experiments[configured(wildcards.experiment)]
    without = isinstance(chosen, GivenPredictions | EnsembleExperiment)
    return 0 if without else min(1, prediction(wildcards).gpus)


def prepare_cluster():
    """Cancel what a run that was killed has left on the cluster, and note what this one is called.

    Two jobs must not write into one training's folder. Called after the data sets are claimed.
    """
    due = list(workflow.dag.needrun_jobs())
    if workflow.local_exec:
        for job in due:
            if job.resources.get("nodes", 1) > 1:
                raise PipelineError(
                    f"{job.rule.name} {job.wildcards[1]}: resources.nodes: found "
                    f"{job.resources.nodes}, which takes a cluster; run with "
                    "--profile workflow/profiles/slurm, or set nodes: 1"
                )
        return
    # only SLURM's executor gives its jobs a name of the run
    if run := getattr(workflow.scheduler._executor, "run_uuid", None):
        comments = {job_comment(job.rule.name, job.wildcards) for job in due}
        cancel_leftover_jobs(LAYOUTS.values(), run, comments, tell=logger.info)
