import pytest
import torch
from torch import nn

from grcsf.models.build import SKIP_UNITS, GlobalUnits, build_segmentation_model
from grcsf.models.grcsf import GRCSF
from grcsf.models.unet import UNet
from grcsf.models.unetpp import UNetPlusPlus

NONE = [None] * 4


class Recorder(nn.Module):
    """A unit that keeps its inputs and answers with `reply(first input)`."""

    def __init__(self, reply):
        super().__init__()
        self.reply, self.inputs = reply, ()

    def forward(self, *inputs):
        self.inputs = inputs
        return self.reply(inputs[0])

    def update(self, features, level_map):
        return features + level_map


@pytest.mark.parametrize("backbone", [UNet(2), UNetPlusPlus(2)])
def test_without_units_it_is_its_backbone(backbone):
    backbone.eval()
    image = torch.rand(1, 1, 40, 40)
    with torch.inference_mode():
        assert torch.equal(GRCSF(backbone, NONE, NONE).eval()(image), backbone(image))


@pytest.mark.parametrize("backbone", [UNet(2), UNetPlusPlus(2)])
def test_units_see_the_nodes_that_the_paper_names(backbone):
    gcus = [Recorder(lambda skip: torch.zeros_like(skip[:, :1])) for _ in range(4)]
    rcus = [Recorder(lambda features: features + 1) for _ in range(4)]
    model = GRCSF(backbone, gcus, rcus).eval()
    image, residuals = torch.rand(1, 1, 32, 32), torch.rand(1, 2, 32, 32)
    with torch.inference_mode():
        features = backbone.encoder(image)
        logits = model(image, residuals)
        torch.testing.assert_close(logits, backbone.head(rcus[0].inputs[0] + 1))
    for level, gcu in enumerate(gcus):
        skip, encoder_below, decoder_below = gcu.inputs
        assert torch.equal(skip, features[level])
        assert torch.equal(encoder_below, features[level + 1])
        # D is the row below's last node after its regional unit, or the bottleneck.
        expected = features[4] if level == 3 else rcus[level + 1].inputs[0] + 1
        assert torch.equal(decoder_below, expected)
        assert torch.equal(rcus[level].inputs[1], residuals)


@pytest.mark.parametrize("kind", SKIP_UNITS)
def test_forward_is_the_compensated_graph_written_out(kind):
    torch.manual_seed(0)
    model = build_segmentation_model("grcsf", width=4, gcu=GlobalUnits(kind)).eval()
    backbone = model.backbone
    image, residuals = torch.rand(1, 1, 32, 32), torch.rand(1, 2, 32, 32)
    with torch.inference_mode():
        encoded = backbone.encoder(image)
        nodes = {(4, 0): encoded[4]}
        for level in (3, 2, 1, 0):
            last = 4 - level
            gcu = model.gcus[str(level)]
            level_map = gcu(encoded[level], encoded[level + 1], nodes[level + 1, last - 1])
            nodes[level, 0] = gcu.update(encoded[level], level_map)
            for j in range(1, last + 1):
                skips = [nodes[level, k] for k in range(j)]
                inputs = torch.cat([*skips, backbone.up(nodes[level + 1, j - 1])], dim=1)
                node = backbone.rows[level][j - 1](inputs)
                nodes[level, j] = node if j == last else gcu.update(node, level_map)
            if level < 3:
                nodes[level, last] = model.rcus[str(level)](nodes[level, last], residuals)
        expected = backbone.head(nodes[0, 4])
        torch.testing.assert_close(model(image, residuals), expected)


@pytest.mark.parametrize(("gcus", "rcus"), [([None] * 3, NONE), (NONE, [None] * 5)])
def test_each_level_must_be_named(gcus, rcus):
    with pytest.raises(ValueError, match="expected 4 units or None"):
        GRCSF(UNet(2), gcus, rcus)
