"""How many multiplications each stage of a run makes at most, counted before anything runs.

At most: as if no slice were empty or held a lesion, and no training stopped early. A training step
counts three times a forward pass, the customary count: one for the forward and two for the backward
pass. Resizing, reading and a PatchGAN's judgement are not counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from pipeline.datasets.subsets import Subset
from pipeline.planning.network_costs import mae_macs, network_macs
from pipeline.planning.sizes import CaseSize
from pipeline.settings import Dataset, GradCam, Resources, Settings
from pipeline.settings.model import used_maes, used_residuals

TRAINED = 3  # forward passes that a training step is worth
Workload = dict[tuple[str, str, str], int]
"""MACs by stage, device and the kind of rate at which they are done (`planning/rates.py`)."""


def devices_used(settings: Settings) -> list[str]:
    """What the networks of a run compute on: `cuda`, `cpu`, or both, in this order."""
    used = {settings.resources.device}
    for dataset in settings.datasets.values():
        maes = (dataset.mae[name] for name in used_maes(dataset, list(dataset.experiments)))
        own = [one.resources for one in maes]
        own += [one.resources for one in dataset.experiments.values()]
        used |= {one.over(settings.resources).device for one in own}
    return sorted(used, reverse=True)


def stage_work(
    dataset: Dataset, cases: Sequence[CaseSize], subsets: Sequence[Subset], resources: Resources
) -> Workload:
    """The work of all stages that compute with networks.

    Args:
        dataset: its settings.
        cases: all of them.
        subsets: the cases' names by role, for each subset.
        resources: of every job; a training may have its own.
    """
    experiments = list(dataset.experiments)
    work: Workload = defaultdict(int)
    slices = {one.case: one.shape[0] for one in cases}
    unlabelled = _count(slices, (one.case for one in cases if not one.labelled))
    for name in used_maes(dataset, experiments):
        device = dataset.mae[name].resources.over(resources).device
        work["train_mae", device, "mae_training"] += _mae_work(dataset, name, slices, subsets)
    for name in used_residuals(dataset, experiments):
        due = (subsets[number - 1] for number in dataset.subsets_with(name))
        seen = _count(slices, {case for roles in due for names in roles.values() for case in names})
        kind, macs = _residual_work(dataset, name)
        work["residual_maps", resources.device, kind] += (seen + unlabelled) * macs
    for name, settings in dataset.experiments.items():
        forward = network_macs(dataset, name)
        device = settings.resources.over(resources).device
        for number in dataset.subsets_of(name):
            roles = subsets[number - 1]
            train, validation, test = (
                _count(slices, roles[role]) for role in ("train", "validation", "test")
            )
            epoch = (TRAINED * train + validation) * forward
            trained = settings.training.epochs * epoch
            work["train_segmentation", device, "segmentation_training"] += trained
            work["predict", resources.device, "segmentation_prediction"] += (
                test + unlabelled
            ) * forward
    return work


def _mae_work(
    dataset: Dataset, name: str, slices: Mapping[str, int], subsets: Sequence[Subset]
) -> int:
    """Every epoch sees the training cases of all subsets once, and validates at every ratio."""
    settings = dataset.mae[name]
    if settings.epochs == 0:
        return 0
    macs = [mae_macs(settings, ratio) for ratio in settings.train_mask_ratios]
    train, validation = (
        _count(slices, {case for roles in subsets for case in roles[role]})
        for role in ("train", "validation")
    )
    return settings.epochs * (TRAINED * train * sum(macs) // len(macs) + validation * sum(macs))


def _residual_work(dataset: Dataset, name: str) -> tuple[str, int]:
    settings = dataset.residuals[name]
    if isinstance(settings, GradCam):
        # a forward pass and a part of a backward pass
        return "segmentation_training", TRAINED * network_macs(dataset, settings.grad_cam)
    return "mae_pass", sum(
        one.passes * mae_macs(dataset.mae[one.mae], one.mask_ratio) for one in settings.maps
    )


def _count(slices: Mapping[str, int], cases: Iterable[str]) -> int:
    return sum(slices[case] for case in cases)
