import pytest
import torch

from grcsf.models.build import SKIP_UNITS, GlobalUnits, build_segmentation_model
from grcsf.models.grcsf import GRCSF
from grcsf.models.unet import UNet
from grcsf.models.unetpp import UNetPlusPlus

NONE = [None] * 4


@pytest.mark.parametrize("backbone", [UNet(2), UNetPlusPlus(2)])
def test_without_units_it_is_its_backbone(backbone):
    backbone.eval()
    image = torch.rand(1, 1, 40, 40)
    with torch.inference_mode():
        assert torch.equal(GRCSF(backbone, NONE, NONE).eval()(image), backbone(image))


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
