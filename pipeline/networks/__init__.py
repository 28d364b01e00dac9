"""To be written: what networks/ is for, in one line."""

from pipeline.networks.lazy_torchmetrics import put_off_torchmetrics

put_off_torchmetrics()  # before any of these modules imports Lightning
