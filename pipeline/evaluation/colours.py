"""The colours of pictures and figures; those of the page stand in `templates/report.html.j2`."""

from collections.abc import Sequence

from matplotlib.colors import LinearSegmentedColormap

REFERENCE = "#2fd36b"
GROUND = "#1b1f23"  # of the legends of pictures, whose outlines lie on black
# distinct with any colour vision (after Okabe and Ito), bright enough on black
ON_BLACK = (
    *("#ff9f1c", "#5bc0f8", "#f78fc6", "#f5e663", "#ff6b4a", "#b9a5ff", "#ffffff"),
    *("#a6a6a6", "#b5793a", "#3f6fff"),
)
# the same, dark enough on white
ON_WHITE = (
    *("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"),
    *("#882255", "#999933", "#332288"),  # after Tol
)
# of signed maps: two hues as bright as one another, told apart with any colour vision; grey is 0
DARKER, FORESEEN, BRIGHTER = ON_BLACK[1], "#4d4d4d", ON_BLACK[0]
SIGNED = LinearSegmentedColormap.from_list("signed", [DARKER, FORESEEN, BRIGHTER])

# of printed figures, after Okabe and Ito: told apart with any colour vision
TRUTH, PREDICTED = "#56b4e9", "#e69f00"  # lines
FALSE_POSITIVE, FALSE_NEGATIVE = "#d55e00", "#009e73"  # the paper's red and green
HIT = "#d9d9d9"


def colours_of(experiments: Sequence[str], palette: Sequence[str]) -> dict[str, str]:
    """A colour for each experiment, the same in every picture on this ground."""
    return {name: palette[index % len(palette)] for index, name in enumerate(experiments)}
