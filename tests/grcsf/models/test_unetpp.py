import torch

from grcsf.models.unetpp import UNetPlusPlus


def test_forward_is_the_nested_graph_written_out():
    torch.manual_seed(0)
    model = UNetPlusPlus(width=2).eval()
    image = torch.rand(1, 1, 32, 32)
    with torch.inference_mode():
        nodes = {(level, 0): f for level, f in enumerate(model.encoder(image))}
        # Column by column, the order of the UNet++ paper: the graph, not the order, is the result.
        for j in range(1, 5):
            for level in range(5 - j):
                skips = [nodes[level, k] for k in range(j)]
                inputs = torch.cat([*skips, model.up(nodes[level + 1, j - 1])], dim=1)
                nodes[level, j] = model.rows[level][j - 1](inputs)
        assert torch.equal(model(image), model.head(nodes[0, 4]))


def test_upsampling_is_bilinear_with_aligned_corners():
    corners = torch.tensor([[[[0.0, 3.0], [6.0, 9.0]]]])
    expected = torch.tensor([[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7], [6, 7, 8, 9.0]])
    torch.testing.assert_close(UNetPlusPlus(width=2).up(corners)[0, 0], expected)
