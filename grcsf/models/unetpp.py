"""UNet++ without deep supervision [Table 1]: 36,628,481 parameters at width 64."""

from typing import cast

from torch import Tensor, nn

from grcsf.models.blocks import LEVELS, Backbone, Compensate, ConvBlock, concatenate, initialise


class UNetPlusPlus(Backbone):
    """Nested skip pathways: X^{l,j} takes all X^{l,0..j-1} and the upsampled X^{l+1,j-1}.

    Args:
        width: filters at full scale (64 = paper).
        encoder, input_maps: as in `Backbone`.
    """

    def __init__(
        self, width: int = 64, encoder: nn.Module | None = None, input_maps: int = 0
    ) -> None:
        super().__init__(width, bias=True, encoder=encoder, input_maps=input_maps)
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.rows = nn.ModuleList(self._row(level) for level in range(LEVELS))
        self.apply(initialise)

    def _row(self, level: int) -> nn.ModuleList:
        own, below = self.filters[level], self.filters[level + 1]
        return nn.ModuleList(
            ConvBlock(j * own + below, own, bias=True) for j in range(1, LEVELS - level + 1)
        )

    def decode_row(
        self, level: int, skip: Tensor, below: list[Tensor], compensate: Compensate
    ) -> list[Tensor]:
        """X^{l,0} .. X^{l,4-l}; see the base class."""
        *inner, last = cast(nn.ModuleList, self.rows[level])
        row = [compensate(skip)]
        for node, deeper in zip(inner, below[:-1], strict=True):
            row.append(compensate(node(concatenate(row, self.up(deeper)))))
        row.append(last(concatenate(row, self.up(below[-1]))))
        return row
