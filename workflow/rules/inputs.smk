"""Which files each rule waits for."""

from pipeline.evaluation.figures.contents import figure_faults
from pipeline.orchestration import job_files
from pipeline.planning.batches import planned_batches
from pipeline.prediction.inputs import prediction_inputs
from pipeline.settings import Untrained, configured
from pipeline.settings.instances import instances_of
from pipeline.settings.paths import checkpoint_files
from pipeline.settings.tables import table_experiments
from pipeline.storage.batches import ALL, overlapping


def known_dataset(wildcards):
    """The data set of a job. A job about a name that the data set does not have ends the call."""
    or_exit(preflight.check_names, SETTINGS, dict(wildcards))
    return SETTINGS.datasets[wildcards.dataset]


def pretrained_checkpoint(wildcards):
    """The weights that a MAE starts from."""
    given = known_dataset(wildcards).mae[configured(wildcards.mae)].checkpoint
    return or_exit(checkpoint_files, Path(given)) if given else []


def residual_models(wildcards):
    chosen = known_dataset(wildcards)
    known_batch(wildcards.dataset, wildcards.batch, batches(wildcards.dataset).residual_maps)
    return job_files.models_behind(LAYOUTS[wildcards.dataset], chosen, wildcards.residuals)


def known_batch(dataset, batch, known):
    """Refuse a batch that a data set does not have."""
    if batch and workflow.is_main_process and batch not in known:
        first = ", ".join(known[:SHOWN_INPUTS])
        sys.exit(
            f"error: data set {dataset}: there is no batch {batch} with "
            f"resources.cases_per_job {SETTINGS.resources.cases_per_job}; the first are: {first}"
        )


@functools.cache
def batches(dataset):
    """Into how many batches each stage divides a data set, which follows from its cases."""
    cases, layout, chosen = source_cases(dataset), LAYOUTS[dataset], SETTINGS.datasets[dataset]
    return planned_batches(layout, chosen, cases, SETTINGS.seed, SETTINGS.resources.cases_per_job)


@functools.cache
def parts(dataset, manifest, batch=ALL):
    """What jobs write in place of one manifest of predictions, masks or scores."""
    return batches(dataset).parts(manifest, batch)


def cases_of_job(wildcards):
    """What says which cases a job works on: ingest and split.

    Where a model is applied nobody is trained, and no case has a part in what becomes of another.
    So a batch waits for its own cases alone, and scans of other batches that come or go do not
    concern it.
    """
    layout = LAYOUTS[wildcards.dataset]
    both = [layout.cases, layout.split]
    if not SETTINGS.apply or not (batch := batch_of(wildcards)):
        return both
    if not (ingested := batches(wildcards.dataset).ingested(layout, batch)):
        return both
    return [*ingested, *map(ancient, map(str, both))]


def cases_of_cut(wildcards):
    """The same for masks, for which it does not matter who is tested."""
    split = LAYOUTS[wildcards.dataset].split
    return [file for file in cases_of_job(wildcards) if Path(file) != split]


def experiment_residuals(wildcards):
    chosen, layout = known_dataset(wildcards), LAYOUTS[wildcards.dataset]
    used = instances_of(chosen, wildcards.experiment, int(wildcards.subset)).residuals
    if used is None:
        return []
    names = batches(wildcards.dataset).residual_maps
    return batches_of_maps(layout, used, overlapping(batch_of(wildcards), names))


def batches_of_maps(layout, residuals, names):
    """What a job that reads these batches of a residual set waits for."""
    files = [layout.residual_batch(residuals, name) for name in names]
    there = [maps_there(layout, residuals, name) for name in names] if GIVES_BACK else []
    return [*files, *there]


def experiment_mae(wildcards):
    """The MAE whose encoder a network starts from."""
    chosen, layout = SETTINGS.datasets[wildcards.dataset], LAYOUTS[wildcards.dataset]
    or_exit(chosen.trained, wildcards.experiment, "to train it")
    used = instances_of(chosen, wildcards.experiment, int(wildcards.subset)).mae
    return [layout.mae(used)] if used else []


def pretrained_weights(wildcards):
    """The files of public weights that a network starts from."""
    chosen = known_dataset(wildcards)
    return or_exit(job_files.pretrained_weights, chosen, configured(wildcards.experiment))


def predicting(wildcards):
    """What predicts: the trained network, or what an experiment without training is given."""
    chosen, layout = known_dataset(wildcards), LAYOUTS[wildcards.dataset]
    name, subset, batch = wildcards.experiment, int(wildcards.subset), batch_of(wildcards)
    known_batch(wildcards.dataset, batch, batches(wildcards.dataset).predict)
    if isinstance(chosen.experiments[configured(name)], Untrained):
        planned = functools.partial(parts, wildcards.dataset, batch=batch)
        return or_exit(prediction_inputs, layout, chosen, name, subset, planned)
    return [layout.model(name, subset)]


def experiments_of(wildcards):
    """The experiments that a job is about: its own, those of its table, or all."""
    chosen = known_dataset(wildcards)
    if "experiment" in wildcards.keys():
        return [wildcards.experiment]
    if "table" in wildcards.keys():
        return table_experiments(chosen.tables[wildcards.table])
    return list(chosen.experiments)


def subset_files(path, repeated=True):
    """Files of every subset and repeat of a job's experiments, as an input function.

    Without `repeated`, those of the first repeat alone. Only what is trained has a `model`.
    """

    def files(wildcards):
        chosen = SETTINGS.datasets[wildcards.dataset]
        of = getattr(LAYOUTS[wildcards.dataset], path)
        batch = batch_of(wildcards)
        manifests = [
            of(name, subset)
            for experiment in experiments_of(wildcards)
            if path != "model" or experiment in chosen.networks
            for name in (chosen.trainings_of(experiment) if repeated else [experiment])
            for subset in chosen.subsets_of(experiment)
        ]
        if path == "model":
            return manifests
        return [part for each in manifests for part in parts(wildcards.dataset, each, batch)]

    return files


def scored_batches(wildcards):
    """What batches have scored, for the job that summarises an experiment."""
    if batch_of(wildcards):
        return []
    summary = LAYOUTS[wildcards.dataset].summary(wildcards.experiment)
    scored = [path for path in parts(wildcards.dataset, summary) if path != summary]
    return [*(path.with_suffix(".csv") for path in scored), *scored]


def experiment_files(path):
    """Files of a job's experiments, as an input function."""

    def files(wildcards):
        of = getattr(LAYOUTS[wildcards.dataset], path)
        return [of(experiment) for experiment in experiments_of(wildcards)]

    return files


def wanted(wildcards):
    """Every report and table, and every manifest on the way to it."""
    return targets_of_all(job_files.all_results)


def wanted_tables(wildcards):
    """Every table of chosen experiments, and every manifest on the way to it."""
    paths = targets_of_all(job_files.table_results)
    if not paths:
        sys.exit(
            "error: configuration: found no datasets.<name>.tables, expected at least one; "
            "config/atlas.yaml and config/ablations.yaml have some"
        )
    return paths


def wanted_figures(wildcards):
    """Every figure, and every manifest on the way to it; a line for those that cannot be."""
    if workflow.is_main_process:
        for dataset, chosen in SETTINGS.datasets.items():
            for figure, fault in figure_faults(chosen).items():
                if fault:
                    logger.info(f"{dataset}: no figure {figure}: {fault}")
    return targets_of_all(job_files.figure_results)


def figure_files(wildcards):
    """What a figure is drawn from."""
    chosen, layout = known_dataset(wildcards), LAYOUTS[wildcards.dataset]
    sets = job_files.figure_residuals(chosen, wildcards.figure)
    names = batches(wildcards.dataset).residual_maps
    maps = [file for name in sets for file in batches_of_maps(layout, name, names)]
    planned = functools.partial(parts, wildcards.dataset)
    return [*job_files.figure_inputs(layout, chosen, wildcards.figure, planned), *maps]


def reports_beside_tables(wildcards):
    """The report of every data set that has a table of chosen experiments."""
    return [LAYOUTS[name].report for name, chosen in SETTINGS.datasets.items() if chosen.tables]


def targets_of_all(paths):
    """Paths of all data sets, with a warning where a disk is too small for their stores."""
    if workflow.is_main_process and not UNWRITABLE and not UNSHARED:
        cases = {dataset: source_cases(dataset) for dataset in SETTINGS.datasets}
        for warning in or_exit(preflight.check_disk, SETTINGS, cases):
            logger.warning(warning)
    return [
        path
        for dataset, chosen in SETTINGS.datasets.items()
        for path in paths(LAYOUTS[dataset], chosen, batches(dataset))
    ]
