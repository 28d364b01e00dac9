"""The work of an MAE's training, by the slices that it learns from."""

from types import SimpleNamespace

import pytest

from pipeline.planning import workload
from pipeline.settings import Dataset, Resources
from tests.pipeline.planning.test_disk import HEART, MAE

ROLES = {"train": ["a", "b"], "validation": ["c"], "test": ["d"]}


@pytest.mark.parametrize(
    ("slices_of", "train", "validation"), [("all", 40, 10), ("healthy", 18, 2)]
)
def test_an_mae_of_healthy_scans_alone_sees_no_other_slice(
    monkeypatch, slices_of, train, validation
):
    for costs in ("mae_macs", "network_macs"):
        monkeypatch.setattr(workload, costs, lambda *_: 1)
    given = {**HEART, "mae": {"shared": {**MAE, "slices_of": slices_of}}}
    roles = {**dict.fromkeys("abcd", ""), **dict.fromkeys("st", "healthy")}
    cases = [
        SimpleNamespace(case=case, role=role, labelled=not role, shape=(10, 8, 8))
        for case, role in roles.items()
    ]
    work = workload.stage_work(Dataset.model_validate(given), cases, [ROLES], Resources(), 0)
    # a training step draws one of the two ratios, and both validate
    expected = workload.TRAINED * train + 2 * validation
    assert work["train_mae", "cpu", "mae_training"] == expected
