import pytest
import torch

from grcsf.models.build import (
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


@pytest.mark.parametrize(
    ("name", "sizes", "count"),
    [
        ("unet", {}, 31_036_481),
        ("unetpp", {}, 36_628_481),
        # Table 6
        ("grcsf", {"rcu": RegionalUnits(patch_sizes=(8, 8, 16))}, 42_848_113),
        ("grcsf", {"rcu": RegionalUnits(patch_sizes=(4, 8, 16))}, 42_749_809),
        ("grcsf", {"rcu": RegionalUnits(patch_sizes=(8, 4, 16))}, 42_823_537),
        ("grcsf", {"rcu": RegionalUnits(patch_sizes=(8, 8, 8))}, 42_749_809),
        ("grcsf", {"rcu": RegionalUnits(patch_sizes=(8, 16, 16))}, 42_946_417),
        # Table 7, which prints 42.27, 42.20 and 40.12 million
        ("grcsf", {"rcu": None}, 42_270_301),
        ("grcsf", {"gcu": GlobalUnits("spatial"), "rcu": None}, 42_201_745),
        ("grcsf", {"gcu": GlobalUnits("attention_gate"), "rcu": None}, 40_117_773),
        # Table 7 prints 304.93 million
        ("mae_unet", {"width": 16, "mae": PretrainedEncoder("large")}, 304_878_321),
        # docs/reference/networks.md
        ("grcsf", {"gcu": None}, 37_206_293),
        ("grcsf", {"rcu": PAPER_RCU._replace(importance=False)}, 42_531_494),
        ("grcsf", {"gcu": GlobalUnits("coordinate"), "rcu": None}, 42_273_777),
        ("grcsf", {"gcu": GlobalUnits("pyramid"), "rcu": None}, 44_228_961),
        ("grcsf", {"backbone": "unet"}, 37_256_113),
        ("grcsf", {"encoder": "mobilenet"}, 27_204_529),
        # an a for each of four GCUs; the RCUs' factor is there with either start
        ("grcsf", {"gcu": GlobalUnits(start=0), "rcu": RegionalUnits(start=0)}, 42_848_117),
        # two more channels into 3×3 filters: 2 · 9 · 64, and 32 or 16 of them
        ("unet", {"residual_input": True}, 31_036_481 + 1152),
        ("unetpp", {"residual_input": True}, 36_628_481 + 1152),
        ("grcsf", {"residual_input": True}, 42_848_113 + 1152),
        ("grcsf", {"residual_input": True, "encoder": "mobilenet"}, 27_204_529 + 576),
        (
            "mae_unet",
            {"width": 16, "mae": PretrainedEncoder("large"), "residual_input": True},
            304_878_321 + 288,
        ),
    ],
)
def test_networks_have_the_parameters_of_the_paper_and_the_documentation(name, sizes, count):
    assert parameters(build_without_memory(name, **sizes)) == count


def test_sizes_of_the_paper_s_512_pixel_network_are_taken():
    rcu = RegionalUnits(patch_sizes=(16, 16, 32))
    model = build_without_memory("grcsf", input_size=(512, 512), rcu=rcu)
    assert [model.rcus[level].patch_size for level in "210"] == [16, 16, 32]


@pytest.mark.parametrize("backbone", ["unet", "unetpp"])
@pytest.mark.parametrize("levels", [(0,), (3, 1), (0, 1, 2, 3)])
def test_units_stand_at_the_levels_asked_for(backbone, levels):
    alone = parameters(build_without_memory(backbone))
    for kind in SKIP_UNITS:
        gcu = GlobalUnits(kind, levels)
        model = build_without_memory("grcsf", backbone=backbone, gcu=gcu, rcu=None)
        assert {int(level) for level in model.gcus} == set(levels)
        assert not model.rcus
        assert parameters(model) == alone + parameters(model.gcus)
    rcu = RegionalUnits(levels, tuple(2 + level for level in levels))
    model = build_without_memory("grcsf", backbone=backbone, gcu=None, rcu=rcu)
    patch_sizes = {int(level): unit.patch_size for level, unit in model.rcus.items()}
    assert patch_sizes == {level: 2 + level for level in levels}
    assert not model.gcus


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
        ({"mae": None}, "mae_unet needs an MAE"),
        ({"mae": PretrainedEncoder("tiny"), "encoder": "mobilenet"}, "and no encoder"),
        ({"mae": PretrainedEncoder("giant")}, "no MAE preset is called 'giant'"),
        ({"mae": PretrainedEncoder("tiny", 60, 12)}, "patch size must be 2, 4, 8, 16"),
        ({"mae": PretrainedEncoder("tiny", 64), "width": 0}, "width must be at least 1"),
    ],
)
def test_sizes_out_of_range_are_refused(sizes, message):
    name = "mae_unet" if "mae" in sizes else "grcsf"
    with pytest.raises(ValueError, match=message):
        build_segmentation_model(name, **{"width": 4, **sizes})
