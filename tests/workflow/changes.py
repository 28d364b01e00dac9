"""For each row of docs/reference/rerun.md what makes its change in a project.

Of the settings that a row names one is changed; that a stage depends on each of them is held by
tests/pipeline/settings/test_stage_settings.py.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.workflow import tiny
from tests.workflow.edits import (
    HEAD,
    HEAD_KEYS,
    STORE,
    add_external,
    add_healthy,
    add_test_case,
    change_resources,
    copy_to_another_machine,
    damage_store,
    deleted,
    edit_code,
    edit_given,
    edit_mask,
    edit_numbers,
    edit_rules,
    edit_scores,
    edit_split,
    edit_store,
    edited,
    forget_times,
    listed,
    move_experiment,
    move_sam,
    move_start,
    move_weights,
    put_back,
    put_older_given,
    put_older_image,
    raise_version,
    remove_test_case,
    reorder,
    replace_start,
    replaced,
    setting,
    shard,
    touch,
    touch_start,
)

BOTH = r"\w+ (head|heart)"
GRCSF = r"\w+ head(: (grcsf|mrm)\b.*)?$"
MAE_ON = r"train_mae head|" + GRCSF
MORE = r"\w+ head(: more\b.*)?$"
OF_GRCSF = "datasets.head.experiments.grcsf"
GIVEN = r"\w+ head(: given\b.*)?$"
SAM = r"\w+ heart(: sam\b.*)?$"
SECOND_REPEAT = r"\w+ head$|evaluate head: unet$|(?!evaluate)\w+ head: unet/repeat-2,"


class Change(NamedTuple):
    """What makes it, a pattern of the jobs concerned, and what one line of the plan says."""

    make: Callable
    about: str = r"\w+ head"
    message: str = ""
    adds: tuple[str, str] | None = None  # a part of earlier jobs, and what new ones have there


PASSES = [{"mae": "shared", "mask_ratio": ratio, "passes": 3} for ratio in (0.5, 0.75)]
EDITED = "has changed since it was written"

CHANGES = {
    "nothing": Change(lambda _: None),
    "an image touched, same content": Change(touch),
    "the configuration reordered and commented": Change(reorder),
    "threads, memory, minutes, `compile` or a training's `logger`": Change(change_resources),
    "cases per job": Change(setting("resources.cases_per_job", 2), GRCSF),
    "a shared folder for residual stores": Change(setting("store.root", "cache")),
    "residual maps until cases are predicted (`store.keep`)": Change(
        setting("store.keep", "until_predicted"), GRCSF
    ),
    "an environment file": Change(
        lambda project: edited(project, "envs/torch.yaml", " torch==", " torch>=")
    ),
    "a rule's text": Change(edit_rules),
    "code in `grcsf/`, no `VERSION` raised": Change(edit_code),
    "another data set's configuration": Change(setting("datasets.heart", None)),
    # every row works on a copy of the project
    "the whole project moved to another path": Change(lambda project: project.copy_checkout()),
    "files copied without their times": Change(forget_times),
    "a setting of an experiment's network or training: `learning_rate`, `warmup_epochs`, "
    "`warmup_factor`, `lesion_free_fraction`, `augment`, `recipe` or a part of it, "
    "`channels_last`, `rcu.start`, `gcu.start`, `residual_input`, `context`, "
    "`labelled_cases`": Change(setting(f"{OF_GRCSF}.training.learning_rate", 3e-4), GRCSF),
    "the weights that an experiment starts from touched, same content": Change(touch_start),
    "the weights that an experiment starts from moved to another path": Change(
        move_start, MORE, adds=("unet", "more")
    ),
    "the weights that an experiment starts from replaced by others": Change(
        replace_start, MORE, adds=("unet", "more")
    ),
    "`repeats` of an experiment raised": Change(
        setting("datasets.head.experiments.unet.repeats", 2),
        SECOND_REPEAT,
        adds=("unet", "unet/repeat-2"),
    ),
    "a setting of an MAE's training: `epochs`, `steps`, `slices_of`, `recipe` or a part of it, "
    "`augment`": Change(setting("datasets.head.mae.shared.epochs", 2), MAE_ON),
    "the weights that an MAE starts from moved to another path": Change(move_weights, MAE_ON),
    "the weights that an MAE starts from replaced by others": Change(
        lambda project: tiny.write_weights(project.folder, seed=4), MAE_ON
    ),
    "the weights of SAM moved to another path": Change(move_sam, SAM),
    "the weights of SAM replaced by others": Change(
        lambda project: tiny.write_sam(project.folder, seed=2), SAM
    ),
    "`boxes` of SAM": Change(setting("datasets.heart.experiments.sam.boxes", "slice"), SAM),
    "a file of given predictions edited": Change(edit_given, GIVEN),
    "a file of given predictions replaced by an older file": Change(
        put_older_given, GIVEN, "head: replaced since predict given 1 read it: given/c3.nii.gz"
    ),
    "a file of given predictions added, of a case that is not tested": Change(
        lambda project: tiny.give(project.folder, 0), GIVEN
    ),
    "a file of given predictions removed": Change(deleted(Path("given/c3.nii.gz")), GIVEN),
    "a setting of a residual set: number of passes, `difference`": Change(
        setting("datasets.head.residuals.mrm.maps", PASSES), GRCSF
    ),
    "threshold of the post-processing": Change(
        setting("datasets.head.postprocess.probability", 0.4)
    ),
    "a setting of the evaluation": Change(
        setting("datasets.head.evaluation.bootstrap_samples", 200)
    ),
    "`slices.plane` to `axial`, where images are stored otherwise": Change(
        setting("datasets.head.slices.plane", "axial")
    ),
    "`source.tilted`, where no image is tilted": Change(
        setting("datasets.head.source.tilted", "resample")
    ),
    "the split": Change(setting("datasets.heart.split.test", 2), r"\w+ heart"),
    "folds in place of the split, or another number of them": Change(
        setting("datasets.heart.split", {"folds": 2, "validation": 1}),
        r"\w+ heart",
        adds=("subset 1", "subset 2"),
    ),
    "a new experiment": Change(
        setting("datasets.head.experiments.more", {**HEAD_KEYS["experiments"]["unet"], "width": 6}),
        MORE,
        adds=("unet", "more"),
    ),
    "a new ensemble of experiments": Change(
        setting("datasets.head.experiments.both", {"ensemble": ["unet", "grcsf"]}),
        r"\w+ head(: both\b.*)?$",
        adds=("given", "both"),
    ),
    "an experiment renamed by moving its folders, and a setting of it changed": Change(
        move_experiment, MORE, adds=("unet", "more")
    ),
    "an experiment removed": Change(setting("datasets.head.experiments.grcsf", None)),
    "a stage's `VERSION` raised": Change(raise_version, BOTH),
    "a new test case": Change(add_test_case),
    "a new training case": Change(listed(range(6))),
    "a healthy scan added": Change(add_healthy),
    "an external data set added": Change(add_external),
    "a test case removed": Change(remove_test_case),
    "a test case's label edited": Change(replaced(tiny.label_of)),
    "a test case's image edited": Change(replaced(tiny.image_of)),
    "a test case's image replaced by an older file": Change(
        put_older_image, message="head: replaced since ingest read it: "
    ),
    "the split deleted": Change(deleted(HEAD.split)),
    "the split edited": Change(edit_split, message=f"split.json: {EDITED}"),
    "a case store deleted": Change(deleted(HEAD.case_store("c3"))),
    "a residual store deleted": Change(deleted(STORE), GRCSF, "no longer there, though "),
    "a residual store edited": Change(edit_store, GRCSF, f"c3.zarr: residual {EDITED}"),
    "a residual store damaged": Change(damage_store, GRCSF, "c3.zarr: residual cannot be read"),
    "a residual store's file deleted": Change(lambda project: shard(project).unlink(), GRCSF),
    "a model deleted": Change(
        deleted(HEAD.model("grcsf", 1).with_suffix("") / "model.safetensors"), GRCSF
    ),
    "a mask deleted": Change(deleted(HEAD.mask("grcsf", 1, "c3", ".nii.gz")), GRCSF),
    "a mask edited": Change(edit_mask, GRCSF, f"c3.nii.gz: {EDITED}"),
    "an experiment's scores deleted": Change(deleted(HEAD.scores("grcsf")), GRCSF),
    "an experiment's scores edited": Change(edit_scores, GRCSF, f"grcsf.csv: {EDITED}"),
    "the comparison's numbers deleted": Change(deleted(HEAD.table(".csv"))),
    "the comparison's numbers edited": Change(edit_numbers, message=f"table.csv: {EDITED}"),
    "the report deleted": Change(deleted(HEAD.report)),
    "results copied to another machine": Change(
        copy_to_another_machine, BOTH, "head: its results were not recorded in this work"
    ),
    "results put back from a backup, made with another threshold of the post-processing": Change(
        put_back
    ),
}
