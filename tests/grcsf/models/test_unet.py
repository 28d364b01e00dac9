import torch

from grcsf.models.blocks import unchanged
from grcsf.models.unet import UNet


def test_row_is_the_compensated_skip_and_the_decoder_node():
    torch.manual_seed(0)
    model = UNet(width=2).eval()
    skip, below = torch.rand(1, 4, 8, 8), [torch.rand(1, 8, 4, 4), torch.rand(1, 8, 4, 4)]
    with torch.inference_mode():
        kept, node = model.decode_row(1, skip, below, lambda features: 2 * features)
        expected = model.decoder[1](torch.cat([2 * skip, model.up[1](below[-1])], dim=1))
        _, uncompensated = model.decode_row(1, skip, below, unchanged)
    assert torch.equal(kept, 2 * skip)
    assert torch.equal(node, expected)
    assert not torch.equal(node, uncompensated)
