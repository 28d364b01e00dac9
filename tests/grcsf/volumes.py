"""Small volumes and the strategies that draw them."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

SPACING = (3.0, 0.5, 0.5)
CALCIUM = (3, 4, 5)
hu_volumes = hnp.arrays(
    np.int16, CALCIUM, elements=st.sampled_from([-50, 130, 131, 199, 250, 399, 400])
)
labelings = hnp.arrays(np.uint8, CALCIUM, elements=st.integers(0, 3))
calcium_masks = hnp.arrays(np.bool_, CALCIUM)
lesion_masks = hnp.arrays(np.bool_, (4, 5, 6))


def line(*values: int) -> np.ndarray:
    """A (1, 1, n) volume."""
    return np.array([[values]], dtype=np.int16)


def row(text: str) -> np.ndarray:
    """A (1, 1, n) mask from a picture: # is lesion."""
    return np.array([[[letter == "#" for letter in text]]])
