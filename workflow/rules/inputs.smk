"""Which files each rule waits for."""

from snakemake.io import IOFile

from pipeline.datasets import ListingError
from pipeline.datasets.cases import list_files, source_files
from pipeline.datasets.configured import planned_cases
from pipeline.evaluation.figures.contents import figure_faults
from pipeline.orchestration import job_files
from pipeline.orchestration.last_run import results_there
from pipeline.planning.batches import planned_batches
from pipeline.prediction.inputs import prediction_inputs
from pipeline.settings import (
    HEALTHY,
    Untrained,
    configured,
    external_set,
    further_images,
    source_root,
)
from pipeline.settings.instances import instances_of
from pipeline.settings.paths import checkpoint_files
from pipeline.settings.tables import table_experiments
from pipeline.storage.batches import ALL, overlapping
from pipeline.storage.batches import batch_of as name_of_batch
from pipeline.storage.files import fingerprint
from pipeline.storage.source_notes import listing_changes

# Source files of a data set at most that Snakemake itself compares. For every job that waits for
# ingest it goes through all that ingest reads, so the time of a plan would grow as their square.
MOST_SOURCES = 20_000
# what Snakemake fills in where it stands in a path: wildcards, and what it calls pathvars
FILLED_IN = re.compile(r"[{}<>]")


def brought(dataset):
    """Results of which Snakemake has recorded no job: somebody put them there."""
    recorded = workflow.persistence.metadata
    paths = map(str, results_there(LAYOUTS[dataset]))
    return [path for path in paths if not recorded(IOFile(path))]


@functools.cache
def source_cases(dataset):
    """The cases of a data set. A fault of its list, split or units ends the call before any job."""
    chosen = SETTINGS.datasets[dataset]
    try:
        try:
            cases = planned_cases(SETTINGS, dataset)
        except ListingError as error:
            if chosen.source.on_error != "skip" or not error.cases:
                raise
            cases = error.cases  # ingest sets the others aside, and says which
        if workflow.is_main_process:
            preflight.check_split(chosen, cases, SETTINGS.seed)
            preflight.check_units(chosen, cases)
            preflight.check_healthy(chosen, cases)
    except (PipelineError, OSError) as error:
        sys.exit(f"error: data set {dataset}: {fault_line(error)}")
    return cases


def known_dataset(wildcards):
    """The data set of a job. A job about a name that the data set does not have ends the call."""
    or_exit(preflight.check_names, SETTINGS, dict(wildcards))
    return SETTINGS.datasets[wildcards.dataset]


def raw_files(wildcards):
    """What ingest reads: images and lists, or what batches of it have stored, and lists.

    Of phantoms, the truth that follows the last one. Images of batches are compared with the
    batches' notes.
    """
    if batch := batch_of(wildcards):
        known_batch(wildcards.dataset, batch, batches(wildcards.dataset).ingest)
        if workflow.is_main_process:
            compare_listing(wildcards.dataset, batch)
        phantom = SETTINGS.datasets[wildcards.dataset].source.phantom
        return [LAYOUTS[wildcards.dataset].phantom_truth] if phantom else []
    if workflow.is_main_process:
        # Every plan asks here. There is no other place: the settings of a call are frozen, and
        # Snakemake decides what has to run once it knows all inputs.
        workflow.dag.forcefiles.update(map(str, CALL.due))
        if not UNWRITABLE:
            workflow.dag.forcefiles.update(brought(wildcards.dataset))
    further = or_exit(further_images, SETTINGS, wildcards.dataset)
    divided = batches(wildcards.dataset).ingested(LAYOUTS[wildcards.dataset])
    lists = [file for each in further if each.source for file in list_files(each.path)]
    if SETTINGS.datasets[wildcards.dataset].source.phantom:
        predicted = [image.path for image in further if image.role == "unlabelled"]
        scans = [case for case in source_cases(wildcards.dataset) if is_given(case.role)]
        others = [] if divided else [file for case in scans for file in source_files(case)]
        images = [*divided, *predicted, *lists, *others]
        return unbraced([LAYOUTS[wildcards.dataset].phantom_truth, *images])
    root = or_exit(source_root, SETTINGS, wildcards.dataset)
    lists = [*list_files(root), *lists]
    if divided:
        return unbraced([*lists, *divided])
    images = [file for case in source_cases(wildcards.dataset) for file in source_files(case)]
    if len(images) <= MOST_SOURCES and not any(map(filled_in, images)):
        lost = lost_files(wildcards.dataset)
        return unbraced([*lists, *(file for file in images if file not in lost)])
    if workflow.is_main_process:
        compare_files(wildcards.dataset, LAYOUTS[wildcards.dataset].cases, (*lists, *images))
    return unbraced(lists)


@functools.cache
def lost_files(dataset):
    """Files that are listed and not there, as links that lead nowhere.

    Ingest tells which; Snakemake would end the call with all that it knows of the rule.
    """
    files = (file for case in source_cases(dataset) for file in source_files(case))
    return {file for file in files if not file.exists()}


@functools.cache
def cases_of_batches(dataset):
    """The cases of each batch of ingest, by the batch's name."""
    cases, count = {}, len(batches(dataset).ingest)
    for case in source_cases(dataset):
        cases.setdefault(name_of_batch(case.case, count), []).append(case)
    return cases


def compare_listing(dataset, batch):
    """Make a batch of ingest due where files of its cases came or went."""
    cases = cases_of_batches(dataset).get(batch, [])
    files = (file for case in cases for file in source_files(case))
    compare_files(dataset, LAYOUTS[dataset].ingest_batch(batch), tuple(files))


@functools.cache
def compare_files(dataset, manifest, files):
    """Make a job of ingest due where files came or went; those that are other, `CALL` finds."""
    if not manifest.exists():
        return
    work = LAYOUTS[dataset].work_of(manifest)
    came, gone = listing_changes(LAYOUTS[dataset].sources(work), files)
    if came or gone:
        counts = f"{len(came)} files came and {len(gone)} went"
        logger.info(f"{dataset}: {counts} since {work} read them")
        workflow.dag.forcefiles.add(str(manifest))


def listed_cases(wildcards):
    """What the listing says of the cases of a batch of ingest; of all, which files are lost."""
    if not (batch := batch_of(wildcards)):
        if batches(wildcards.dataset).ingested(LAYOUTS[wildcards.dataset]):
            return {}
        lost = () if has_phantoms(wildcards) else lost_files(wildcards.dataset)
        return {"lost": sorted(map(str, lost))} if lost else {}
    cases = cases_of_batches(wildcards.dataset).get(batch, [])
    listed = [
        [case.case, str(case.image), str(case.label), case.group, case.role, case.modality]
        for case in cases
    ]
    return {"cases": fingerprint({"listed": listed})}


def filled_in(file):
    """Whether Snakemake would take a path for a pattern; as an image, it is compared here."""
    return bool(FILLED_IN.search(str(file)))


def unbraced(files):
    """The files of an input function, in which Snakemake takes braces for wildcards."""
    for file in map(str, files):
        if filled_in(file):
            told = "found one of { } < > in a path, expected none, as Snakemake fills them in"
            sys.exit(f"error: {file}: {told}; rename it, or give a link to it")
    return files


def has_phantoms(wildcards):
    """Whether the workflow itself writes the images of a data set."""
    return bool(SETTINGS.datasets[wildcards.dataset].source.phantom)


def is_given(role):
    """Whether a case beside phantoms is one of the user's own that were listed: of a folder."""
    return role == HEALTHY or bool(external_set(role))


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
