"""The adversarial term: what it judges, what it costs, and where its gradients go."""

import pytest
import torch
from torch import nn

from grcsf.mae.adversarial import build_discriminator, discriminator_loss, generator_term, pasted


def test_visible_patches_keep_their_own_pixels():
    image = torch.arange(16.0).reshape(1, 1, 4, 4) / 16
    hidden = torch.tensor([[True, False, False, False]])
    actual = pasted(torch.full((1, 4, 4), 0.9), image, hidden)
    image[..., :2, :2] = 0.9
    torch.testing.assert_close(actual, image)


def test_least_squares_by_hand():
    judge = nn.Flatten()  # its logits are the pixels; a slice should give 1, a reconstruction 0
    fake, real = torch.full((2, 1, 4, 4), 0.5), torch.full((2, 1, 4, 4), 1.75)
    assert generator_term(judge, fake).item() == pytest.approx(0.5**2)
    wanted = 0.5 * (0.5**2 + (1.75 - 1) ** 2)
    assert discriminator_loss(judge, fake, real).item() == pytest.approx(wanted)


def test_each_term_trains_its_own_network():
    judge = build_discriminator()
    fake = torch.rand(2, 1, 32, 32, requires_grad=True)
    discriminator_loss(judge, fake, torch.rand(2, 1, 32, 32)).backward()
    assert fake.grad is None
    assert all(parameter.grad is not None for parameter in judge.parameters())
    judge.requires_grad_(False)
    generator_term(judge, fake).backward()
    assert fake.grad.abs().sum() > 0


def test_weights_values_and_gradients_are_monais_to_the_bit():
    from monai.losses import PatchAdversarialLoss  # here: it takes seconds
    from monai.networks.nets import PatchDiscriminator

    torch.manual_seed(0)
    theirs = PatchDiscriminator(
        spatial_dims=2, channels=32, in_channels=1, out_channels=1, num_layers_d=3
    )
    torch.manual_seed(0)
    ours = build_discriminator()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    judge = PatchAdversarialLoss(criterion="least_squares")
    fake, real = torch.rand(2, 2, 1, 48, 64)
    expected = 0.5 * sum(
        judge(theirs(shown)[-1], target_is_real=wanted, for_discriminator=True)
        for shown, wanted in ((fake, False), (real, True))
    )
    value = discriminator_loss(ours, fake, real)
    (value + expected).backward()
    assert torch.equal(value, expected)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one.grad, other.grad)
    term = judge(theirs(fake)[-1], target_is_real=True, for_discriminator=False)
    assert torch.equal(generator_term(ours, fake), term)
