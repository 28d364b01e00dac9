"""To be written: what networks/ is for, in one line."""

from pipeline.networks.lazy_torchmetrics import put_off_metrics

put_off_metrics()  # before any of these modules imports Lightning
