import timm
import torch

from grcsf.models.mobilenet import MobileNetEncoder


def test_layers_are_those_of_timm_s_mobilenet():
    with torch.device("meta"):
        ours = MobileNetEncoder(64).stages.state_dict()
        theirs = timm.create_model("mobilenetv1_100", features_only=True, in_chans=1).state_dict()
    assert {key: value.shape for key, value in ours.items()} == {
        key: value.shape for key, value in theirs.items()
    }


def test_features_halve_from_full_scale_on():
    features = MobileNetEncoder(4)(torch.rand(2, 1, 32, 48))
    shapes = [(2, 4 * 2**level, 32 // 2**level, 48 // 2**level) for level in range(5)]
    assert [feature.shape for feature in features] == shapes
