import pytest
import torch

from grcsf.models.build import MODELS, build_segmentation_model, uses_residuals


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def build_without_memory(name, **sizes):
    with torch.device("meta"):
        return build_segmentation_model(name, **sizes)


@pytest.mark.parametrize(("name", "count"), [("unet", 31_036_481), ("unetpp", 36_628_481)])
def test_backbones_have_the_paper_s_parameters(name, count):
    assert parameters(build_without_memory(name)) == count


@pytest.mark.parametrize(
    ("patch_sizes", "count"),
    [
        ((8, 8, 16), 42_848_113),
        ((4, 8, 16), 42_749_809),
        ((8, 4, 16), 42_823_537),
        ((8, 8, 8), 42_749_809),
        ((8, 16, 16), 42_946_417),
    ],
)
def test_grcsf_has_the_parameters_of_table_6(patch_sizes, count):
    assert parameters(build_without_memory("grcsf", patch_sizes=patch_sizes)) == count


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "giga"), [("unet", "41.85"), ("unetpp", "106.10"), ("grcsf", "123.10")]
)
def test_macs_of_table_1_by_the_paper_s_counter(name, giga):
    thop = pytest.importorskip("thop")
    model = build_segmentation_model(name)
    inputs = (torch.rand(1, 1, 224, 224), torch.rand(1, 2, 224, 224))
    macs, _ = thop.profile(model, inputs, verbose=False)
    assert f"{macs / 1e9:.2f}" == giga


def test_sizes_of_the_paper_s_512_pixel_network_are_taken():
    model = build_without_memory("grcsf", input_size=(512, 512), patch_sizes=(16, 16, 32))
    assert [model.rcus[level].patch_size for level in "210"] == [16, 16, 32]


@pytest.mark.parametrize("residual_maps", [1, 3])
def test_any_number_of_residual_maps(residual_maps):
    model = build_segmentation_model("grcsf", width=4, residual_maps=residual_maps).eval()
    image = torch.rand(1, 1, 32, 32)
    assert model(image, torch.rand(1, residual_maps, 32, 32)).shape == image.shape
    with pytest.raises(ValueError, match=f"expected {residual_maps} residual maps, found 2"):
        model(image, torch.rand(1, 2, 32, 32))


def test_only_grcsf_uses_residual_maps():
    assert [name for name in MODELS if uses_residuals(name)] == ["grcsf"]


@pytest.mark.parametrize("ask", [uses_residuals, build_segmentation_model])
def test_unknown_name_is_refused_with_the_nearest(ask):
    with pytest.raises(ValueError, match=r"unknown model 'unetp'.*did you mean 'unetpp'"):
        ask("unetp")


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"width": 0}, "width must be at least 1"),
        ({"residual_maps": 0}, "residual_maps must be at least 1"),
        ({"patch_sizes": (8, 8)}, "expected 3 patch_sizes"),
        ({"patch_sizes": (0, 8, 16)}, "1/4 scale must be 1 to 56"),
        ({"patch_sizes": (8, 8, 16), "input_size": (64, 8)}, "1/4 scale must be 1 to 2"),
    ],
)
def test_sizes_out_of_range_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        build_segmentation_model("grcsf", **{"width": 4, **sizes})
