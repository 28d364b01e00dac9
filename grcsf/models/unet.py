"""Plain UNet with transposed convolutions [Table 1]: 31,036,481 parameters at width 64."""

from torch import Tensor, nn

from grcsf.models.blocks import Backbone, Compensate, ConvBlock, concatenate, initialise


class UNet(Backbone):
    """The reference network without nested skip pathways.

    Args:
        width: filters at full scale (64 = paper).
        encoder, input_maps: as in `Backbone`.
    """

    def __init__(
        self, width: int = 64, encoder: nn.Module | None = None, input_maps: int = 0
    ) -> None:
        super().__init__(width, bias=False, encoder=encoder, input_maps=input_maps)
        pairs = list(zip(self.filters[:-1], self.filters[1:], strict=True))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(deep, shallow, 2, stride=2) for shallow, deep in pairs
        )
        self.decoder = nn.ModuleList(
            ConvBlock(deep, shallow, bias=False) for shallow, deep in pairs
        )
        self.apply(initialise)

    def decode_row(
        self, level: int, skip: Tensor, below: list[Tensor], compensate: Compensate
    ) -> list[Tensor]:
        """The skip feature and the decoder node of one level; see the base class."""
        skip = compensate(skip)
        upsampled: Tensor = self.up[level](below[-1])
        return [skip, self.decoder[level](concatenate([skip], upsampled))]
