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
