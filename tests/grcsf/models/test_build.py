import pytest
import torch

from grcsf.models.build import (
    MODELS,
    PAPER_RCU,
    SKIP_UNITS,
    GlobalUnits,
    PretrainedEncoder,
    RegionalUnits,
    build_segmentation_model,
    uses_residuals,
)


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
    rcu = RegionalUnits(patch_sizes=patch_sizes)
    assert parameters(build_without_memory("grcsf", rcu=rcu)) == count


@pytest.mark.parametrize(
    ("kind", "printed"),
    [("se", "42.27"), ("spatial", "42.20"), ("attention_gate", "40.12")],
)
def test_units_on_the_skips_have_the_parameters_of_table_7(kind, printed):
    count = parameters(build_without_memory("grcsf", gcu=GlobalUnits(kind), rcu=None))
    assert f"{count / 1e6:.2f}" == printed


@pytest.mark.parametrize(
    ("sizes", "count"),
    [
        ({"rcu": None}, 42_270_301),
        ({"gcu": None}, 37_206_293),
        ({"rcu": PAPER_RCU._replace(importance=False)}, 42_531_494),
        ({"gcu": GlobalUnits("spatial"), "rcu": None}, 42_201_745),
        ({"gcu": GlobalUnits("coordinate"), "rcu": None}, 42_273_777),
        ({"gcu": GlobalUnits("attention_gate"), "rcu": None}, 40_117_773),
        ({"gcu": GlobalUnits("pyramid"), "rcu": None}, 44_228_961),
        ({"backbone": "unet"}, 37_256_113),
        ({"encoder": "mobilenet"}, 27_204_529),
    ],
)
def test_variants_have_the_parameters_of_the_documentation(sizes, count):
    assert parameters(build_without_memory("grcsf", **sizes)) == count


def test_the_mae_s_encoder_under_a_unet_has_about_the_parameters_of_table_7():
    encoder = PretrainedEncoder("large")
    count = parameters(build_without_memory("mae_unet", width=16, mae=encoder))
    assert count == 304_878_321
    assert count == pytest.approx(304.93e6, rel=2e-4)  # as printed


def test_sizes_of_the_paper_s_512_pixel_network_are_taken():
    rcu = RegionalUnits(patch_sizes=(16, 16, 32))
    model = build_without_memory("grcsf", input_size=(512, 512), rcu=rcu)
    assert [model.rcus[level].patch_size for level in "210"] == [16, 16, 32]


@pytest.mark.parametrize("residual_maps", [1, 3])
def test_any_number_of_residual_maps(residual_maps):
    model = build_segmentation_model("grcsf", width=4, residual_maps=residual_maps).eval()
    image = torch.rand(1, 1, 32, 32)
    assert model(image, torch.rand(1, residual_maps, 32, 32)).shape == image.shape
    with pytest.raises(ValueError, match=f"expected {residual_maps} residual maps, found 2"):
        model(image, torch.rand(1, 2, 32, 32))


def test_only_grcsf_with_regional_units_uses_residual_maps():
    assert [name for name in MODELS if uses_residuals(name)] == ["grcsf"]
    assert not any(uses_residuals(name, None) for name in MODELS)
    model = build_segmentation_model("grcsf", width=4, rcu=None).eval()
    image = torch.rand(1, 1, 32, 32)
    assert model(image).shape == image.shape


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({}, "mae_unet needs an MAE"),
        ({"mae": PretrainedEncoder("tiny"), "encoder": "mobilenet"}, "and no encoder"),
        ({"mae": PretrainedEncoder("giant")}, "no MAE preset is called 'giant'"),
        ({"mae": PretrainedEncoder("tiny", 60, 12)}, "patch size must be 2, 4, 8, 16"),
        ({"mae": PretrainedEncoder("tiny", 64), "width": 0}, "width must be at least 1"),
    ],
)
def test_an_encoder_that_does_not_fit_is_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        build_segmentation_model("mae_unet", **{"width": 4, **sizes})


@pytest.mark.parametrize("kind", SKIP_UNITS)
@pytest.mark.parametrize("backbone", ["unet", "unetpp"])
@pytest.mark.parametrize("levels", [(0,), (3, 1), (0, 1, 2, 3)])
def test_skips_are_compensated_at_the_levels_asked_for(kind, backbone, levels):
    model = build_without_memory(
        "grcsf", backbone=backbone, gcu=GlobalUnits(kind, levels), rcu=None
    )
    assert {int(level) for level in model.gcus} == set(levels)
    assert not model.rcus
    alone = parameters(build_without_memory(backbone))
    assert parameters(model) == alone + parameters(model.gcus)


@pytest.mark.parametrize("backbone", ["unet", "unetpp"])
@pytest.mark.parametrize("levels", [(0,), (3, 1), (0, 1, 2, 3)])
def test_regional_units_stand_at_the_levels_asked_for(backbone, levels):
    rcu = RegionalUnits(levels, tuple(2 + level for level in levels))
    model = build_without_memory("grcsf", backbone=backbone, gcu=None, rcu=rcu)
    assert {int(level): unit.patch_size for level, unit in model.rcus.items()} == {
        level: 2 + level for level in levels
    }
    assert not model.gcus


def test_without_importance_there_is_no_score():
    model = build_without_memory("grcsf", rcu=PAPER_RCU._replace(importance=False))
    assert not [key for key, _ in model.named_parameters() if "importance" in key]


@pytest.mark.parametrize("ask", [uses_residuals, build_segmentation_model])
def test_unknown_name_is_refused_with_the_nearest(ask):
    with pytest.raises(ValueError, match=r"unknown model 'unetp'.*did you mean 'unetpp'"):
        ask("unetp")


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"width": 0}, "width must be at least 1"),
        ({"residual_maps": 0}, "residual_maps must be at least 1"),
        ({"rcu": RegionalUnits(patch_sizes=(8, 8))}, "expected 3 patch_sizes"),
        ({"rcu": RegionalUnits(patch_sizes=(0, 8, 16))}, "1/4 scale must be 1 to 56"),
        ({"rcu": RegionalUnits((3,), (29,))}, "1/8 scale must be 1 to 28"),
        ({"input_size": (64, 8)}, "1/4 scale must be 1 to 2"),
        ({"rcu": RegionalUnits((4,), (8,))}, "rcu levels must be some of 0 to 3"),
        ({"gcu": GlobalUnits(levels=())}, "gcu levels must be some of 0 to 3"),
        ({"gcu": GlobalUnits(levels=(1, 1))}, "gcu levels must be some of 0 to 3"),
        ({"gcu": GlobalUnits("spacial")}, "unknown gcu kind.*did you mean 'spatial'"),
        ({"gcu": None, "rcu": None}, "grcsf without gcu and rcu is its backbone"),
        ({"backbone": "unet++"}, "unknown backbone"),
        ({"encoder": "mobilnet"}, "unknown encoder.*did you mean 'mobilenet'"),
        ({"encoder": "mobilenet", "width": 5}, "width must be 2, 4, 6 .*, found 5"),
        ({"encoder": "mobilenet", "width": 0}, "width must be 2, 4, 6 .*, found 0"),
    ],
)
def test_sizes_out_of_range_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        build_segmentation_model("grcsf", **{"width": 4, **sizes})
