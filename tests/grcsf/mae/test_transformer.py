"""The parts of a vision transformer, against timm's."""

from functools import partial

import pytest
import torch
from timm.layers import PatchEmbed
from timm.models.vision_transformer import Block
from torch import nn

from grcsf.mae.transformer import PatchEmbedding, TransformerLayer


def both(ours, theirs):
    """The two of one seed."""
    made = []
    for build in (ours, theirs):
        torch.manual_seed(0)
        made.append(build())
    return made


@pytest.mark.parametrize(("width", "heads"), [(32, 4), (192, 3)])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("lowered", [True, False])
def test_a_layer_is_timms_to_the_bit(width, heads, fused, lowered):
    options = {"qkv_bias": True, "norm_layer": partial(nn.LayerNorm, eps=1e-6)}
    ours, theirs = both(
        lambda: TransformerLayer(width, heads), lambda: Block(width, heads, **options)
    )
    ours.attn.fused = theirs.attn.fused_attn = fused
    assert list(ours.state_dict()) == list(theirs.state_dict())
    tokens = torch.randn(2, 50, width)
    with torch.autocast("cpu", torch.bfloat16, enabled=lowered):
        changed, expected = ours(tokens), theirs(tokens)
    (changed.sum() + expected.sum()).backward()
    assert torch.equal(changed, expected)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one.grad, other.grad)


def test_an_embedding_is_timms_to_the_bit():
    ours, theirs = both(lambda: PatchEmbedding(4, 1, 24), lambda: PatchEmbed((32, 16), 4, 1, 24))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    images = torch.rand(2, 1, 32, 16)
    assert torch.equal(ours(images), theirs(images))
