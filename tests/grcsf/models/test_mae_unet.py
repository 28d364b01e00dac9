import pytest
import torch
from torch.nn import functional as F

from grcsf.mae.model import build_mae
from grcsf.models.mae_unet import MaeEncoder, MaeUNet


def network(patch_size=8, frozen=True, width=2):
    torch.manual_seed(0)
    mae = build_mae("tiny", image_size=32, patch_size=patch_size)
    return MaeUNet(MaeEncoder(mae, frozen=frozen), width).eval()


@pytest.fixture
def image():
    return torch.rand(2, 1, 32, 32)


def test_the_encoder_sees_what_the_mae_s_own_encoder_would(image):
    mae = build_mae("tiny", image_size=32, patch_size=8)
    encoder = MaeEncoder(mae, frozen=False)
    # by hand, because an MAE itself masks at least one patch
    with torch.inference_mode():
        cls = (mae.cls_token + mae.pos_embed[:, :1]).expand(2, -1, -1)
        latents = [torch.cat([cls, mae.embed(image)], dim=1)]
        for block in mae.blocks:
            latents.append(block(latents[-1]))
        expected = [latents[2], latents[4], mae.norm(latents[6])]
        maps = encoder(image, 3)
    for level_map, tokens in zip(maps, expected, strict=True):
        assert level_map.shape == (2, 192, 4, 4)
        torch.testing.assert_close(level_map.flatten(2).mT, tokens[:, 1:])


@pytest.mark.parametrize(("patch_size", "levels"), [(2, 1), (4, 2), (8, 3), (16, 4)])
def test_there_is_a_decoder_node_for_each_doubling(patch_size, levels, image):
    model = network(patch_size)
    assert len(model.decoder) == levels
    with torch.inference_mode():
        assert model(image).shape == image.shape


def test_forward_is_the_graph_written_out(image):
    model = network(patch_size=4)
    with torch.inference_mode():
        shallow, deep = model.encoder(image, 2)
        middle = model.decoder[1](torch.cat([model.lifts[0](shallow), model.up[1](deep)], dim=1))
        assert middle.shape == (2, 4, 16, 16)
        full = torch.cat([model.image_skip(image), model.up[0](middle)], dim=1)
        expected = model.head(model.decoder[0](full))
        torch.testing.assert_close(model(image), expected)


def test_other_sizes_are_resized_and_brought_back():
    model, image = network(), torch.rand(1, 1, 90, 70)
    with torch.inference_mode():
        shown = F.interpolate(image, (32, 32), mode="bilinear", antialias=True)
        expected = F.interpolate(model(shown), (90, 70), mode="bilinear")
        torch.testing.assert_close(model(image), expected)


def test_weights_come_from_an_mae_and_stay_only_if_frozen(image):
    source = build_mae("tiny", image_size=32, patch_size=8)
    for frozen in (True, False):
        model = network(frozen=frozen).train()
        model.encoder.load_mae(source)
        learnt = [value for value in model.parameters() if value.requires_grad]
        optimiser = torch.optim.SGD(learnt, lr=0.1)
        model(image).square().mean().backward()
        optimiser.step()
        weights = (part.blocks[0].attn.qkv.weight for part in (model.encoder, source))
        assert torch.equal(*weights) == frozen
    with pytest.raises(RuntimeError, match="size mismatch"):
        network().encoder.load_mae(build_mae("tiny", image_size=32, patch_size=4))
