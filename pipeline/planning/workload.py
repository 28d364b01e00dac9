"""The multiplications of each stage of a run, an upper bound counted before anything runs.

It assumes that no slice is empty or holds a lesion, and that no training stops early. A training
step counts as three forward passes, as is customary: one for the forward and two for the backward
pass. Resizing, reading and a PatchGAN are not counted, nor is SAM, which sees prompted slices only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from pipeline.datasets.subsets import Subset, labelled_part
from pipeline.planning.network_costs import mae_macs, network_macs
from pipeline.planning.sizes import CaseSize, predictable
from pipeline.settings import (
    HEALTHY,
    Dataset,
    GradCam,
    Resources,
    Settings,
    configured,
    external_set,
)
from pipeline.settings.instances import (
    fold_of,
    mae_instances,
    residual_instances,
    subsets_served,
    subsets_that_predict_unlabelled,
    used_maes,
)

TRAINED = 3  # forward passes that a training step counts as
Workload = dict[tuple[str, str, str], int]
"""MACs by stage, device and kind of work (`planning/rates.py`)."""


def devices_used(settings: Settings) -> list[str]:
    """The devices of a run: `cuda`, `cpu`, or both in this order."""
    used = {settings.resources.device}
    for dataset in settings.datasets.values():
        maes = (dataset.mae[name] for name in used_maes(dataset, list(dataset.experiments)))
        own = [mae.resources for mae in maes]
        own += [experiment.resources for experiment in dataset.experiments.values()]
        used |= {resources.over(settings.resources).device for resources in own}
    return sorted(used, reverse=True)


def stage_work(
    dataset: Dataset,
    cases: Sequence[CaseSize],
    subsets: Sequence[Subset],
    resources: Resources,
    seed: int,  # of the split
) -> Workload:
    """The work of all stages that compute with networks.

    `subsets` has for each subset the names of cases by role; a training may have resources of its
    own in place of `resources`.
    """
    experiments = list(dataset.experiments)
    work: Workload = defaultdict(int)
    slices = {case.case: case.shape[0] for case in cases}
    unlabelled = _count(slices, (case.case for case in predictable(cases) if not case.labelled))
    tested = (case.case for case in cases if case.labelled and external_set(case.role))
    external = _count(slices, tested)
    healthy = _count(slices, (case.case for case in cases if case.role == HEALTHY))
    for name in () if dataset.bundle else mae_instances(dataset, experiments):
        device = dataset.mae[configured(name)].resources.over(resources).device
        work["train_mae", device, "mae_training"] += _mae_work(
            dataset, name, slices, subsets, healthy
        )
    for name in residual_instances(dataset, experiments):
        due = (subsets[number - 1] for number in subsets_served(dataset, name))
        cases_due = {case for roles in due for names in roles.values() for case in names}
        kind, macs = _residual_work(dataset, configured(name))
        mapped = _count(slices, cases_due) + unlabelled + external
        work["residual_maps", resources.device, kind] += mapped * macs
    predicting = subsets_that_predict_unlabelled(dataset)
    applied = [dataset.bundle.experiment] if dataset.bundle else list(dataset.networks)
    for name in applied:
        settings, forward = dataset.networks[name], network_macs(dataset, name)
        device = settings.resources.over(resources).device
        for number in dataset.subsets_of(name):
            roles = labelled_part(subsets[number - 1], name, settings, seed)
            seen = {role: _count(slices, names) for role, names in roles.items()}
            if settings.training.slice_per_case is not None:
                seen["train"] = len(roles["train"])
            epoch = (TRAINED * seen["train"] + seen["validation"]) * forward
            trained = settings.repeats * settings.training.epochs * epoch
            if not dataset.bundle:
                work["train_segmentation", device, "segmentation_training"] += trained
            further = unlabelled if number in predicting else 0
            predicted = settings.repeats * (seen["test"] + external + further) * forward
            work["predict", resources.device, "segmentation_prediction"] += predicted
    return work


def _mae_work(
    dataset: Dataset, name: str, slices: Mapping[str, int], subsets: Sequence[Subset], healthy: int
) -> int:
    """An epoch sees the training cases of all subsets, or a fold's, and `healthy` slices once.

    It validates at every ratio.
    `steps` may cut the last epoch's training, never its validation.
    """
    settings, fold = dataset.mae[configured(name)], fold_of(name)
    if not settings.is_trained:
        return 0
    macs = [mae_macs(settings, ratio) for ratio in settings.train_mask_ratios]
    seen_subsets = subsets if fold is None else subsets[fold - 1 : fold]
    train, validation = (
        _count(slices, {case for roles in seen_subsets for case in roles[role]})
        for role in ("train", "validation")
    )
    train += healthy
    if settings.slices_of == "healthy":
        train, validation = healthy - healthy // 10, healthy // 10
    epochs = settings.epochs_over(train)
    seen = epochs * train
    if settings.steps is not None:
        seen = min(seen, settings.steps * settings.batch_size)
    return TRAINED * seen * sum(macs) // len(macs) + epochs * validation * sum(macs)


def _residual_work(dataset: Dataset, name: str) -> tuple[str, int]:
    settings = dataset.residuals[name]
    if isinstance(settings, GradCam):
        # a forward pass and a part of a backward pass
        return "segmentation_training", TRAINED * network_macs(dataset, settings.grad_cam)
    return "mae_pass", sum(
        part.passes * mae_macs(dataset.mae[part.mae], part.mask_ratio) for part in settings.maps
    )


def _count(slices: Mapping[str, int], cases: Iterable[str]) -> int:
    return sum(slices[case] for case in cases)
