import torch

from grcsf.models.unetpp import UNetPlusPlus


def test_upsampling_is_bilinear_with_aligned_corners():
    corners = torch.tensor([[[[0.0, 3.0], [6.0, 9.0]]]])
    expected = torch.tensor([[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7], [6, 7, 8, 9.0]])
    torch.testing.assert_close(UNetPlusPlus(width=2).up(corners)[0, 0], expected)
