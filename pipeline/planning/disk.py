"""The disk that all results of a configuration take, estimated before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.planning.network_costs import mae_parameters, network_parameters
from pipeline.planning.sizes import Sized, stores_needed
from pipeline.settings import Dataset, configured
from pipeline.settings.instances import mae_instances

FLOAT = 4
# what a finished training keeps, in copies of its weights: them, and the last checkpoint with both
# moments of Adam; an experiment's the best epoch's weights, too
MAE_COPIES = 1 + 3
NETWORK_COPIES = 1 + 3 + 1


def disk_needed(dataset: Dataset, cases: Sequence[Sized]) -> dict[str, int]:
    """Bytes by kind of result, of everything that the experiments use."""
    stores = stores_needed(dataset, cases)
    instances = mae_instances(dataset, dataset.experiments)
    autoencoders = [dataset.mae[configured(name)] for name in instances]
    networks = sum(
        network_parameters(dataset, name) * len(dataset.subsets_of(name)) * experiment.repeats
        for name, experiment in dataset.networks.items()
    )
    applied = dataset.bundle is not None
    trained = [mae.is_trained and not applied for mae in autoencoders]
    maes = sum(
        mae_parameters(mae) * (MAE_COPIES if own else 1)
        for mae, own in zip(autoencoders, trained, strict=True)
    )
    return {
        "case stores": stores["case stores"],
        "trained MAEs": FLOAT * maes,
        "residual stores": stores["residual stores"],
        "trained networks": FLOAT * (1 if applied else NETWORK_COPIES) * networks,
        "predictions": stores["predictions"],
    }
