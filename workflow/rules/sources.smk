"""Which cases a data set lists, and which of their files ingest waits for."""

import re

from snakemake.io import IOFile

from pipeline.datasets import ListingError
from pipeline.datasets.cases import list_files, source_files
from pipeline.datasets.configured import planned_cases
from pipeline.orchestration.last_run import results_there
from pipeline.settings import HEALTHY, external_set, further_images, source_root
from pipeline.storage.batches import batch_of as name_of_batch
from pipeline.storage.files import fingerprint
from pipeline.storage.source_notes import listing_changes

# Source files of a data set at most that Snakemake itself compares. For every job that waits for
# ingest it goes through all that ingest reads, so the time of a plan would grow as their square.
MOST_SOURCES = 20_000
# What Snakemake fills in where it stands in a path: wildcards, and what it calls pathvars.
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
