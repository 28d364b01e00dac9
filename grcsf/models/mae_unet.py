"""UNet on the encoder of a masked autoencoder [Table 7: "UNet with pre-trained MAE Encoder"].

The encoder's tokens keep one scale, so the skips are brought to theirs by transposed convolutions,
as in UNETR (Hatamizadeh et al. 2022, Fig. 2).
"""

import itertools

import torch
from torch import Tensor, nn

from grcsf.mae.model import MaskedAutoencoder
from grcsf.models.blocks import ConvBlock, SegmentationNetwork, concatenate, initialise
from grcsf.resampling import resize, source_slices


class MaeEncoder(nn.Module):
    """The encoder of a masked autoencoder, applied to all patches.

    Its state dict has the autoencoder's names.

    Args:
        mae: the autoencoder; its encoder is shared, not copied.
        frozen: exclude its weights from training.
    """

    def __init__(self, mae: MaskedAutoencoder, *, frozen: bool) -> None:
        super().__init__()
        self.image_size = mae.image_size
        self.patch_size = mae.patch_size
        self.frozen = frozen
        self.patch_embed = mae.patch_embed
        self.cls_token = mae.cls_token
        self.pos_embed = mae.pos_embed
        self.blocks = mae.blocks
        self.norm = mae.norm
        if frozen:
            self.requires_grad_(False)

    @property
    def width(self) -> int:
        """Channels D of a token."""
        return self.cls_token.shape[-1]

    def load_mae(self, mae: MaskedAutoencoder) -> None:
        """Copy the encoder's weights of another autoencoder of the same shape.

        Raises:
            RuntimeError: if the shapes differ.
        """
        state, own = mae.state_dict(), self.state_dict()
        self.load_state_dict({key: state[key] for key in own if key in state})

    def forward(self, image: Tensor, count: int) -> list[Tensor]:
        """Tokens of `count` evenly spaced blocks, the last normalised.

        Args:
            image: `(B, 1, S, S)` in [0, 1], S = `image_size`.
            count: number of maps, at least 1.

        Returns:
            `count` maps `(B, D, S / p, S / p)`, shallowest first; p = `patch_size`.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            tokens = self.patch_embed(image) + self.pos_embed[:, 1:]  # (B, L, D)
            cls = (self.cls_token + self.pos_embed[:, :1]).expand(len(tokens), -1, -1)
            tokens = torch.cat([cls, tokens], dim=1)  # (B, 1 + L, D)
            wanted = [-(-len(self.blocks) * (index + 1) // count) for index in range(count)]
            outputs = {}
            for number, block in enumerate(self.blocks, start=1):
                tokens = block(tokens)
                outputs[number] = tokens
            outputs[len(self.blocks)] = self.norm(tokens)
            return [self._as_map(outputs[number]) for number in wanted]

    def _as_map(self, tokens: Tensor) -> Tensor:
        grid = self.image_size // self.patch_size
        return tokens[:, 1:].transpose(1, 2).reshape(len(tokens), -1, grid, grid)


class MaeUNet(SegmentationNetwork):
    """A UNet decoder whose deepest map and skips are an MAE encoder's tokens.

    With patches of p = 2**n pixels there are n decoder nodes. The skip at full scale comes from the
    image, and from residual maps where they are input channels (the MAE's encoder knows images
    only); those at 1 / 2**l come from blocks at l / n of the encoder's depth. Images of another
    size are resized to the encoder's, and the logits back.

    Args:
        encoder: an MAE's encoder; its patch size is a power of two.
        width: filters at full scale; they double at each level. With 16 and a ViT-L the network
            has 304.9 M parameters, as printed in Table 7.
        input_maps: M, residual maps as further input channels.

    Raises:
        ValueError: if `width` is below 1, or the patch size is no power of two above 1.
    """

    size_multiple = 1

    def __init__(self, encoder: MaeEncoder, width: int, input_maps: int = 0) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width must be at least 1, found {width}")
        levels = encoder.patch_size.bit_length() - 1
        if encoder.patch_size != 2**levels or levels < 1:
            raise ValueError(
                f"patch size must be 2, 4, 8, 16 and so on, found {encoder.patch_size}"
            )
        filters = [width * 2**level for level in range(levels)]
        deeper = [*filters[1:], encoder.width]
        self.input_maps = input_maps
        self.image_skip = ConvBlock(1 + input_maps, width, bias=False)
        self.lifts = nn.ModuleList(
            _upsample(encoder.width, filters[level], levels - level) for level in range(1, levels)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(deep, own, 2, stride=2)
            for own, deep in zip(filters, deeper, strict=True)
        )
        self.decoder = nn.ModuleList(ConvBlock(2 * own, own, bias=False) for own in filters)
        self.head = nn.Conv2d(width, 1, 1)
        self.apply(initialise)
        self.encoder = encoder  # after the line above, which would overwrite its weights

    def segment(self, image: Tensor, residuals: Tensor | None) -> Tensor:  # noqa: ARG002
        """`(B, 1 + M, h, w)` → logits `(B, 1, h, w)`; see the base class."""
        shown = resize(image, (self.encoder.image_size,) * 2)  # as the MAE sees its slices
        *shallow, decoded = self.encoder(shown[:, :1], len(self.decoder))
        skips = [self.image_skip(shown)]
        skips += [lift(tokens) for lift, tokens in zip(self.lifts, shallow, strict=True)]
        for level in reversed(range(len(self.decoder))):
            upsampled: Tensor = self.up[level](decoded)
            decoded = self.decoder[level](concatenate([skips[level]], upsampled))
        logits: Tensor = self.head(decoded)
        return source_slices(logits, image.shape[-2:])


def _upsample(inputs: int, outputs: int, times: int) -> nn.Sequential:
    """`times` transposed convolutions of stride 2; the first changes the channels."""
    channels = [inputs, *[outputs] * times]
    return nn.Sequential(
        *(
            nn.ConvTranspose2d(before, after, 2, stride=2)
            for before, after in itertools.pairwise(channels)
        )
    )
