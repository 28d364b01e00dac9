"""Networks and masked models: built, trained, kept and run over the slices of cases.

This room may import `grcsf`, errors, settings, storage and datasets; evaluation, the stages and
every later room may import it.

- `build`: networks and masked models for settings.
- `weights`: finished models: their weights, record and manifest.
- `public_checkpoints`: weights of public MAEs and of SAM.
- `devices`: the GPU or CPU of a job, and copies from it.
- `trainer`: what all trainings share; the Lightning trainer, its callbacks and its errors.
- `mae_training`, `segmentation_training`: the losses and rates of each training.
- `resume`: how an interrupted training continues.
- `history`: the epochs of a training, what its units did, and how its last one compares.
- `nodes`: a training on several nodes of a cluster.
- `reconstruction`: cases, slices and masks on their way to residual maps; the passes of a slice.
- `grad_cam`: Grad-CAM of a trained network in place of residual maps.
- `lazy_torchmetrics`: Lightning without all the metrics that it imports.
- `prefetch`: reads ahead and writes behind in threads.
"""

from pipeline.networks.lazy_torchmetrics import put_off_metrics

put_off_metrics()  # before any of these modules imports Lightning
