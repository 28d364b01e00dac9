"""What tests of `grcsf check` share: a grid, settings, and what was found of whom."""

from pipeline.settings import Dataset
from pipeline.storage.images.geometry import Geometry
from pipeline.storage.layout import Layout
from pipeline.tools.check.check import check

SHAPE = (8, 24, 20)
GRID = Geometry(SHAPE, (3.0, 0.5, 0.5))
SOURCE = {"adapter": "nnunet", "root": "unused", "modality": "CT"}


def settings(**over):
    given = {
        "source": SOURCE,
        "slices": {"size": [32, 32], "window": [-200, 800]},
        "mae": {"shared": {"preset": "tiny", "image_size": 32, "patch_size": 8, "epochs": 1}},
        "experiments": {"unetpp": {"model": "unetpp", "width": 8}},
    }
    return Dataset.model_validate({**given, **over})


def checked(tmp_path, root, **over):
    return check(Layout(tmp_path / "results", "ct"), settings(**over), root, [], 1, 2)


def told(found, severity):
    """Case → what was found of it."""
    lines = {}
    for one in found.findings:
        if one.severity == severity:
            lines.setdefault(one.case, []).append(one.found)
    return lines
