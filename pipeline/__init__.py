"""The stages, and the rooms that serve them.

A module that lies directly in this folder is a stage, in the data's order:

    ingest             images and masks → one case store each
    split              who trains, validates and tests
    unpack             an applied model's bundle → networks, in place of trainings
    train_mae          masked autoencoders on slices without lesion
    residual_maps      slice and mean reconstructions → residual stores, the cache
    train_segmentation networks on slices and residual maps
    predict            probabilities of the test cases
    postprocess        probabilities → masks in the source's geometry
    evaluate           masks and references → scores per patient
    compare            scores of all experiments → one table
    tabulate           chosen experiments → a publication's table
    draw               scores, masks and maps → a publication's figure
    report             everything above → one page
    measure            masks of an applied model → the table and the page of a cohort

A stage is called as its command, its rule and the folder of its results. A folder serves the
stages:

    errors/         the one error, and the findings that it is made of
    settings/       the configuration: every key, read and refused
    storage/        what lies on the disk, and where: images, stores, masks, slices
    datasets/       folders of images → cases; phantoms/ writes synthetic ones
    ingestion/      cases → their stores, in one job or in batches
    networks/       networks: built, trained, kept, run over slices
    evaluation/     masks → scores → tables, pictures, pages
    orchestration/  around a job: locks, records, what changed since, what a killed run left
    planning/       before the first job: what will fail, how long, how much
    tools/          the commands that are no stage
    cli/            the command line

Imports run down one order, and stages import no stage:

    errors < settings < storage < datasets < networks < evaluation < stages
           < orchestration < planning < tools < cli

So a stage knows nothing of Snakemake, locks, records or estimates.
"""
