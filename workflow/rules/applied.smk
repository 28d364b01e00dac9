"""Which files the rules of an applied model wait for and write."""

from pipeline.orchestration import applied_files
from pipeline.settings.paths import expanded
from pipeline.storage.roles import check_nobody_trains


def applied_model(wildcards):
    """The bundle whose weights are unpacked; without one nothing asks for them."""
    return unbraced([expanded(SETTINGS.apply.model, "apply.model")]) if SETTINGS.apply else []


def measured_files(wildcards):
    """What the masks of a batch are measured from; for the table, what batches have measured."""
    layout, chosen = LAYOUTS[wildcards.dataset], known_dataset(wildcards)
    names = batches(wildcards.dataset).predict
    if not (batch := batch_of(wildcards)):
        return [layout.cases, *map(layout.measures, names)]
    known_batch(wildcards.dataset, batch, names)
    planned = functools.partial(parts, wildcards.dataset, batch=batch)
    return [*cases_of_cut(wildcards), *applied_files.measured_files(layout, chosen, planned)]


def wanted_cohort(wildcards):
    """The table and the page of the cohort, and every manifest on the way to them."""
    if not SETTINGS.apply:
        sys.exit(
            "error: apply: found no model, expected one: snakemake apply --config model=stroke.zip "
            "root=/archive results=out, or a section apply in the configuration"
        )
    return targets_of_all(job_files.all_results)


# A rule's outputs must have its wildcards: the same files of a data set that is not named yet.
UNPACKED = [
    path
    for chosen in SETTINGS.datasets.values()
    for path in applied_files.unpacked_models(LAYOUT, chosen)
]

if SETTINGS.apply and workflow.is_main_process:
    for layout in LAYOUTS.values():
        or_exit(check_nobody_trains, layout)
