"""Error maps say at each pixel what went wrong there."""

import numpy as np
from matplotlib.colors import to_rgb

from pipeline.evaluation.colours import FALSE_NEGATIVE, FALSE_POSITIVE, HIT
from pipeline.evaluation.figures.panels import error_map


def test_false_positives_are_red_false_negatives_green_and_hits_light():
    image = np.float32([[0.5, 0.5, 0.5, 0.5]])
    prediction, reference = np.array([[0, 1, 0, 1]], bool), np.array([[0, 0, 1, 1]], bool)
    nothing, positive, negative, hit = error_map(image, prediction, reference)[0]
    np.testing.assert_allclose(positive, to_rgb(FALSE_POSITIVE))
    np.testing.assert_allclose(negative, to_rgb(FALSE_NEGATIVE))
    np.testing.assert_allclose(hit, to_rgb(HIT))
    assert positive[0] > max(positive[1:]), "red"
    assert negative[1] > max(negative[0], negative[2]), "green"
    assert np.ptp(nothing) == 0, "the image, in grey"
    assert 0 < nothing[0] < 0.5, "and dimmed"
