import torch

from grcsf.models.build import build_segmentation_model


def test_forward_is_the_compensated_graph_written_out():
    torch.manual_seed(0)
    model = build_segmentation_model("grcsf", backbone="unet", width=4).eval()
    backbone = model.backbone
    image, residuals = torch.rand(1, 1, 32, 32), torch.rand(1, 2, 32, 32)
    with torch.inference_mode():
        encoded = backbone.encoder(image)
        node = encoded[4]
        for level in (3, 2, 1, 0):
            gcu = model.gcus[str(level)]
            level_map = gcu(encoded[level], encoded[level + 1], node)
            skip = gcu.update(encoded[level], level_map)
            node = backbone.decoder[level](torch.cat([skip, backbone.up[level](node)], dim=1))
            if level < 3:
                node = model.rcus[str(level)](node, residuals)
        torch.testing.assert_close(model(image, residuals), backbone.head(node))
