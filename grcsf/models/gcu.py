"""Global Compensation Unit [§3.2, Eq. 1–2, Fig. 2]: similarity restores what downsampling lost."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from grcsf.autocast import without_autocast
from grcsf.models.blocks import initialise

SQUARED_NORM_FLOOR = 1e-6
"""Added to squared norms: bounds the cosine's gradient at a zero vector by 1e3."""


def cosine_over_channels(first: Tensor, second: Tensor) -> Tensor:
    """Cosine of the two channel vectors at each pixel, CS of Eq. 1.

    Args:
        first: `(B, C, h, w)`.
        second: the same shape.

    Returns:
        `(B, 1, h, w)` in [−1, 1], float32 whatever autocast says; 0 where a vector is zero.
    """
    # torch's own function divides by max(norm, eps), whose gradient at zero is 1 / eps.
    with without_autocast(first):
        first, second = first.float(), second.float()
        product = (first * second).sum(1, keepdim=True)
        first_norm = first.square().sum(1, keepdim=True) + SQUARED_NORM_FLOOR
        second_norm = second.square().sum(1, keepdim=True) + SQUARED_NORM_FLOOR
        return product * first_norm.rsqrt() * second_norm.rsqrt()


class SqueezeExcitation(nn.Module):
    """Re-weights channels by their global average [SE of Eq. 1].

    Args:
        channels: C.
        reduction: C // reduction hidden units, at least 1. The parameter count of Table 7
            (42.27 M) forces 20.
    """

    def __init__(self, channels: int, reduction: int = 20) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(channels, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, channels),
            nn.Sigmoid(),
        )

    def forward(self, features: Tensor) -> Tensor:
        """`(B, C, h, w)` → the re-weighted map `(B, C, h, w)`."""
        gate: Tensor = self.gate(features)  # (B, C)
        return features * gate[:, :, None, None]


class SkipUnit(nn.Module, ABC):
    """A unit on the skips of one level: it computes a map, which updates every skip feature."""

    @abstractmethod
    def forward(self, skip: Tensor, encoder_below: Tensor, decoder_below: Tensor) -> Tensor:
        """Compute the level's map.

        Args:
            skip: F = X^{l,0}, `(B, C, h, w)`.
            encoder_below: S = X^{l+1,0}, `(B, 2C, h / 2, w / 2)`.
            decoder_below: D, the decoder node of the level below, the same shape.

        Returns:
            `(B, 1 or C, h, w)`, for `update`.
        """

    @abstractmethod
    def update(self, features: Tensor, level_map: Tensor) -> Tensor:
        """A skip feature `(B, C, h, w)` and the level's map → the updated `(B, C, h, w)`."""


class GlobalCompensationUnit(SkipUnit):
    """Similarity of a skip feature with the two upsampled features of the level below.

    Args:
        channels: C of the skip feature; the deeper features have 2C.
        attention: builds a module that re-weights a map of C channels; called twice.
        bias: whether the transposed convolutions have a bias.
        start: 1 = Eq. 2 as printed; 0 multiplies R by a learnable factor a that starts at 0, so
            that a new unit changes nothing: C = a · R ⊗ F ⊕ F, with one more parameter.

    Raises:
        ValueError: if `start` is neither.
    """

    def __init__(
        self,
        channels: int,
        attention: Callable[[int], nn.Module] = SqueezeExcitation,
        *,
        bias: bool = True,
        start: int = 1,
    ) -> None:
        super().__init__()
        if start not in (0, 1):
            raise ValueError(f"start must be 0 or 1, found {start}")
        self.up_encoder = nn.ConvTranspose2d(2 * channels, channels, 2, stride=2, bias=bias)
        self.up_decoder = nn.ConvTranspose2d(2 * channels, channels, 2, stride=2, bias=bias)
        self.attention_decoder = attention(channels)
        self.attention_skip = attention(channels)
        self.scale = nn.Parameter(torch.zeros(())) if start == 0 else None
        self.apply(initialise)

    def forward(self, skip: Tensor, encoder_below: Tensor, decoder_below: Tensor) -> Tensor:
        """R = CS(RU ⊗ SE(U), SE(F)) [Eq. 1].

        Args:
            skip: F, `(B, C, h, w)`.
            encoder_below: S, `(B, 2C, h / 2, w / 2)`; its upsampled version is RU.
            decoder_below: D, the same shape; its upsampled version is U.

        Returns:
            `(B, 1, h, w)` in [−1, 1], of the dtype of `skip`.
        """
        re_upscaled: Tensor = self.up_encoder(encoder_below)  # (B, C, h, w)
        upscaled: Tensor = self.up_decoder(decoder_below)  # (B, C, h, w)
        refined = re_upscaled * self.attention_decoder(upscaled)
        return cosine_over_channels(refined, self.attention_skip(skip)).to(skip.dtype)

    def update(self, features: Tensor, level_map: Tensor) -> Tensor:
        """C = R ⊗ F ⊕ F [Eq. 2]; `(B, C, h, w)` and `(B, 1, h, w)` → `(B, C, h, w)`."""
        if self.scale is not None:
            level_map = level_map * self.scale.to(level_map.dtype)
        return torch.addcmul(features, features, level_map)
