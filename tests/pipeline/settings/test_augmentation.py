"""`augment` is bounded, and leaves no trace where nothing is varied."""

import pytest

from pipeline.errors import PipelineError
from pipeline.settings import Mae, Training
from pipeline.settings.reading import validate

PLACES = {"mae.shared.augment": ("train_mae", "shared")}
PLACES |= {"experiments.g.training.augment": ("train_segmentation", "g")}
OTHERS = [("ingest", ""), ("residual_maps", "mrm"), ("predict", "g"), ("evaluate", "g")]


@pytest.mark.parametrize("path", PLACES)
def test_only_the_training_depends_on_it(changed, part, path):
    before, after = changed(), changed({path: {"flip": 0.5}})
    stages = [*PLACES.values(), *OTHERS]
    differ = [stage for stage in stages if part(before, *stage) != part(after, *stage)]
    assert differ == [PLACES[path]]


@pytest.mark.parametrize("section", [Mae, Training])
@pytest.mark.parametrize("nothing", [None, {}, {"flip": 0, "noise": 0.0}])
def test_records_are_as_before_where_nothing_is_varied(section, nothing):
    made = section(augment=nothing)
    assert "augment" not in made.model_dump(mode="json")
    assert made.augment is None
    assert section.model_validate({**made.model_dump()}) == section()


def test_what_is_varied_is_recorded_and_read_again():
    written = Training(augment={"flip": 0.5}).model_dump(mode="json")
    assert written["augment"]["flip"] == 0.5
    assert Training.model_validate(written).augment.flip == 0.5


@pytest.mark.parametrize("path", PLACES)
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"flip": 1.1}, "augment.flip: found 1.1 (float), expected at most 1"),
        ({"flip": True}, "augment.flip: found True (bool)"),
        ({"rotate": 181}, "augment.rotate: found 181 (int), expected at most 180"),
        ({"rotate": float("nan")}, "augment.rotate: found nan"),
        ({"scale": 0.6}, "augment.scale: found 0.6 (float), expected at most 0.5"),
        ({"shift": -0.1}, "augment.shift: found -0.1 (float), expected at least 0"),
        ({"elastic": 0.1}, "augment.elastic: found 0.1 (float), expected at most 0.05"),
        ({"gamma": 2}, "augment.gamma: found 2 (int), expected at most 1"),
        ({"noise": 0.3}, "augment.noise: found 0.3 (float), expected at most 0.2"),
        ({"flips": 0.5}, "flips"),
    ],
)
def test_values_out_of_bounds_and_unknown_keys_are_refused(changed, path, given, said):
    with pytest.raises(PipelineError) as refused:
        validate(changed({path: given}), "x")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
