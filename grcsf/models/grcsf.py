"""GRCSF [Fig. 1]: a U-shaped backbone, GCUs in its skip pathways, RCUs in its decoder."""

from collections.abc import Sequence
from functools import partial
from typing import cast

from torch import Tensor, nn

from grcsf.models.blocks import LEVELS, Backbone, Compensate, SegmentationNetwork, unchanged
from grcsf.models.gcu import SkipUnit


class GRCSF(SegmentationNetwork):
    """Wires compensation units into a backbone.

    Rows are computed from the bottom up. All that follows a unit uses the node that it changes in
    its changed form, the row above included; S of Eq. 1 is the encoder's own.

    Args:
        backbone: owns encoder, decoder and head.
        gcus: one unit or None per level, full scale first; updates the level's skip features.
        rcus: one unit or None per level, full scale first; updates the level's decoder node.

    Raises:
        ValueError: if `gcus` or `rcus` does not name each of the four levels.
    """

    def __init__(
        self,
        backbone: Backbone,
        gcus: Sequence[SkipUnit | None],
        rcus: Sequence[nn.Module | None],
    ) -> None:
        super().__init__()
        if len(gcus) != LEVELS or len(rcus) != LEVELS:
            raise ValueError(
                f"expected {LEVELS} units or None of each kind, "
                f"found {len(gcus)} GCUs and {len(rcus)} RCUs"
            )
        self.backbone, self.input_maps = backbone, backbone.input_maps
        self.gcus = nn.ModuleDict({str(level): gcu for level, gcu in enumerate(gcus) if gcu})
        self.rcus = nn.ModuleDict({str(level): rcu for level, rcu in enumerate(rcus) if rcu})

    def segment(self, image: Tensor, residuals: Tensor | None) -> Tensor:
        """`(B, 1 + M, h, w)`, `(B, R, h, w)` → logits `(B, 1, h, w)`; see the base class."""
        features: list[Tensor] = self.backbone.encoder(image)
        row = features[-1:]
        for level in reversed(range(LEVELS)):
            compensate = self._compensation(level, features, row[-1])
            row = self.backbone.decode_row(level, features[level], row, compensate)
            row[-1] = self._regional(level, row[-1], residuals)
        logits: Tensor = self.backbone.head(row[-1])
        return logits

    def _compensation(self, level: int, features: list[Tensor], decoded: Tensor) -> Compensate:
        """Eq. 2 with this level's similarity, or no change where it has no unit."""
        if str(level) not in self.gcus:
            return unchanged
        gcu = cast(SkipUnit, self.gcus[str(level)])
        level_map: Tensor = gcu(features[level], features[level + 1], decoded)  # (B, 1 or C, h, w)
        return partial(gcu.update, level_map=level_map)

    def _regional(self, level: int, decoded: Tensor, residuals: Tensor | None) -> Tensor:
        """M in U's place, or U where the level has no unit."""
        if str(level) not in self.rcus:
            return decoded
        if residuals is None:
            raise ValueError("this network needs residual maps (B, R, h, w), found none")
        fused: Tensor = self.rcus[str(level)](decoded, residuals)
        return fused
