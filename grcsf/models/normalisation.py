"""Input normalisation by mean and deviation: of a data set, or of ImageNet's photographs."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of red, green and blue in [0, 1]."""


class Normalisation(nn.Module):
    """(image − mean) / deviation, channel by channel; maps that follow the image stay as they are.

    Both are kept with a network's weights, so that it sees the same in training and prediction.

    Args:
        mean: of each of the image's C channels, in [0, 1].
        deviation: of the same, above 0.

    Raises:
        ValueError: a deviation is not above 0, or one is missing.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: Sequence[float], deviation: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(deviation) or min(deviation) <= 0:
            raise ValueError(f"expected {len(mean)} deviations above 0, found {tuple(deviation)}")
        for name, values in (("mean", mean), ("deviation", deviation)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).reshape(-1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """`(B, C + M, h, w)` → the same, the first C channels normalised."""
        channels = len(self.mean)
        normalised = (image[:, :channels] - self.mean) / self.deviation
        return torch.cat([normalised, image[:, channels:]], dim=1)

    def fill(self, mean: float, deviation: float) -> None:
        """Take these of a data set for every channel.

        Raises:
            ValueError: the deviation is not above 0.
        """
        if not deviation > 0:
            raise ValueError(f"expected a deviation above 0, found {deviation}")
        self.mean.fill_(mean)
        self.deviation.fill_(deviation)
