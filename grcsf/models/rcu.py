"""Regional Compensation Unit [§3.3.2, Eq. 6, Figs. 4, 5]: residual maps meet decoder features.

A 1×1 convolution over pixels is a linear layer over tokens. The layers on patches are written as
linear layers, which need no rearrangement.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grcsf.models.blocks import initialise, pad_to_multiple


def to_patches(maps: Tensor, patch_size: int) -> Tensor:
    """Cut maps into patches of P×P tokens, row by row; missing pixels are zeros.

    Args:
        maps: `(B, C, h, w)`.
        patch_size: P, in pixels.

    Returns:
        `(B, N, P², C)`, `N = ceil(h / P) · ceil(w / P)`.
    """
    batch, channels, height, width = (padded := pad_to_multiple(maps, patch_size)).shape
    rows, columns = height // patch_size, width // patch_size
    grid = padded.view(batch, channels, rows, patch_size, columns, patch_size)
    # (B, rows, columns, P, P, C)
    return grid.permute(0, 2, 4, 3, 5, 1).reshape(batch, rows * columns, patch_size**2, channels)


def from_patches(patches: Tensor, height: int, width: int) -> Tensor:
    """Put patches back and crop the padding, ϕ of Eq. 6: the inverse of `to_patches`.

    Args:
        patches: `(B, N, P², C)`.
        height: h of the maps that were cut, in pixels.
        width: w, in pixels.

    Returns:
        `(B, C, h, w)`.
    """
    batch, _, tokens, channels = patches.shape
    patch_size = round(tokens**0.5)
    rows, columns = -(-height // patch_size), -(-width // patch_size)
    grid = patches.view(batch, rows, columns, patch_size, patch_size, channels)
    maps = grid.permute(0, 5, 1, 3, 2, 4).reshape(
        batch, channels, rows * patch_size, columns * patch_size
    )
    return maps[..., :height, :width]


def real_tokens(height: int, width: int, patch_size: int, device: torch.device) -> Tensor | None:
    """Mask of the tokens that are pixels, not padding: 1 = pixel.

    Returns:
        `(N, P²)` bool, or None if P divides both sides and all tokens are pixels.
    """
    if height % patch_size == 0 and width % patch_size == 0:
        return None
    pixels = torch.ones(1, 1, height, width, dtype=torch.bool, device=device)
    return to_patches(pixels, patch_size)[0, :, :, 0]


class ImportanceScore(nn.Module):
    """φ(U): score of each patch for holding a lesion [§3.3.2, Fig. 5].

    Args:
        channels: C.
        patch_size: P, in pixels.
        hidden: units of the first fully connected layer, h₁.
    """

    def __init__(self, channels: int, patch_size: int, hidden: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        reduced = max(1, channels // 8)
        self.reduce = nn.Sequential(nn.Conv2d(channels, reduced, 1), nn.BatchNorm2d(reduced))
        self.score = nn.Sequential(
            nn.Linear(reduced * patch_size**2, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, 64),
            nn.ReLU(inplace=True),
            nn.Linear(64, 1),
            nn.Sigmoid(),
        )
        self.apply(initialise)

    def forward(self, features: Tensor) -> Tensor:
        """`(B, C, h, w)` → one score in (0, 1) per patch, `(B, N, 1)`."""
        # Reduced before the cut, so that padding stays out of the batch statistics.
        patches = to_patches(self.reduce(features), self.patch_size)  # (B, N, P², C/8)
        scores: Tensor = self.score(patches.flatten(2))
        return scores


class CrossAttention(nn.Module):
    """Attention of residual tokens to feature tokens [Fig. 4], as in self-attention GANs.

    Queries, keys and values are full-width; the softmax is over keys and not divided by √C.

    `scale` is the cited attention's learnable γ. Eq. 6 does not print it, and its W₁, W₂ make it
    redundant, but the parameter counts of Table 6 need one more scalar per unit than Eq. 6 shows.
    With `start` 1 a new unit computes Eq. 6 as printed; with 0, as the cited attention starts, it
    changes nothing until γ has learnt to.

    Keys and values are computed for each residual map, although they do not depend on it: so does
    the paper's count of 123.10 G (Table 1). Sharing them would save 1.23 G.

    Args:
        channels: C.
        start: γ of a new unit, 0 or 1.
    """

    def __init__(self, channels: int, start: int = 1) -> None:
        super().__init__()
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.scale = nn.Parameter(torch.full((), float(start)))
        self.apply(initialise)

    def forward(self, lifted: Tensor, features: Tensor, real: Tensor | None) -> Tensor:
        """RM' ⊗ U' of Eq. 6, inside each patch.

        Args:
            lifted: RM', `(B, N, P², C)`.
            features: U', `(B, N, P², C)`.
            real: `(N, P²)` bool, 1 = may serve as a key; None = all may.

        Returns:
            `(B, N, P², C)`.
        """
        attended = F.scaled_dot_product_attention(
            self.query(lifted),
            self.key(features),
            self.value(features),
            attn_mask=None if real is None else real[None, :, None, :],
            scale=1.0,
        )
        return attended * self.scale.to(attended.dtype)


class RegionalCompensationUnit(nn.Module):
    """Adds attention from residual maps to a decoder node, patch by patch, weighted by importance.

    All residual maps share an attention. Where P does not divide the sides, the patches at the edge
    are smaller: attention never reaches padding.

    Args:
        channels: C.
        patch_size: P, in pixels of the feature map.
        importance: `(B, C, h, w)` → `(B, N, 1)`, the score of each patch; None: φ = 1 [Table 3].
        residual_maps: R, at least 1.
        start: of `CrossAttention`.

    Raises:
        ValueError: if `patch_size` or `residual_maps` is below 1, or `start` neither 0 nor 1.
    """

    def __init__(
        self,
        channels: int,
        patch_size: int,
        importance: nn.Module | None,
        residual_maps: int = 2,
        *,
        start: int = 1,
    ) -> None:
        super().__init__()
        if patch_size < 1 or residual_maps < 1:
            raise ValueError(
                "patch_size and residual_maps must be at least 1, "
                f"found {patch_size} and {residual_maps}"
            )
        if start not in (0, 1):
            raise ValueError(f"start must be 0 or 1, found {start}")
        self.patch_size = patch_size
        self.lifts = nn.ModuleList(nn.Linear(1, channels) for _ in range(residual_maps))
        self.apply(initialise)
        self.attention = CrossAttention(channels, start)
        self.importance = importance
        self.map_weights = nn.Parameter(torch.ones(residual_maps))

    def forward(self, features: Tensor, residuals: Tensor) -> Tensor:
        """M of Eq. 6, which replaces U.

        Args:
            features: U, `(B, C, h, w)`.
            residuals: RM₁ .. RM_R, `(B, R, H, W)` in [0, 1], or [−1, 1] where they keep the sign,
                with `H >= h`, `W >= w`.

        Returns:
            `(B, C, h, w)`.

        Raises:
            ValueError: if the number of residual maps is not R.
        """
        if residuals.shape[1] != len(self.lifts):
            raise ValueError(
                f"expected {len(self.lifts)} residual maps, found {residuals.shape[1]}"
            )
        height, width = features.shape[-2:]
        # Area averaging lets each residual pixel count; bilinear at 1/4 would skip 3 of 4.
        resized = F.interpolate(residuals, size=(height, width), mode="area")
        attended = self._attend(features, resized)
        # φ is the same for all maps, so φ and the folding follow the sum of the maps.
        if self.importance is not None:
            attended = attended * self.importance(features)[..., None].to(attended.dtype)
        return features + from_patches(attended, height, width)

    def _attend(self, features: Tensor, residuals: Tensor) -> Tensor:
        """`(B, C, h, w)`, `(B, R, h, w)` → the sum of W_r · RM'_r ⊗ U', `(B, N, P², C)`."""
        height, width = features.shape[-2:]
        real = real_tokens(height, width, self.patch_size, features.device)
        tokens = to_patches(features, self.patch_size)  # (B, N, P², C)
        maps = to_patches(residuals, self.patch_size)  # (B, N, P², R)
        total = torch.zeros_like(tokens)
        for lift, residual, weight in zip(
            self.lifts, torch.split(maps, 1, dim=-1), self.map_weights, strict=True
        ):
            attended: Tensor = self.attention(lift(residual), tokens, real)
            total = total + attended * weight.to(attended.dtype)
        return total
