"""Finished results of four cases, as `grcsf view` shows them, made from arrays alone."""

from http.client import HTTPConnection

import numpy as np

from pipeline.evaluate import evaluate
from pipeline.postprocess import postprocess
from pipeline.settings import Dataset
from pipeline.storage.images.geometry import Geometry
from pipeline.storage.zarr_store import write_store
from tests.pipeline.results import OBLIQUE, ORIGIN, RESIDUALS, SPACING, ResultsTree
from tests.pipeline.storage.images.grids import attributes_of, turned

SHAPE = (5, 24, 20)
GRID = Geometry(SHAPE, SPACING, ORIGIN, OBLIQUE)
# what would be markup, if anything took it for it
SCRIPT = "\"'&amp;<img src=x onerror=alert(1)><script>alert(2)"
SETTINGS = {
    "source": {"adapter": "nnunet", "root": "somewhere"},
    "slices": {"size": (32, 32), "window": (0, 100)},
    "mae": {"shared": {"preset": "tiny"}},
    "residuals": {
        "mrm": RESIDUALS,
        "signed": {**RESIDUALS.model_dump(), "difference": "signed"},
    },
    "experiments": {
        "unetpp": {"model": "unetpp"},
        "grcsf": {"model": "grcsf", "residuals": "mrm"},
        "later": {"model": "unet"},
    },
    "evaluation": {"baseline": "unetpp", "bootstrap_samples": 100},
}
DATASET = Dataset.model_validate(SETTINGS)
MISSES = {"good": 0, "turned": 4, SCRIPT: 1}  # tested case → pixels by which unetpp is beside it


def values(place):
    """One of a case's residual maps (z, h, w): the same value in all of a slice."""
    levels = np.arange(SHAPE[0]) / 8 + place / 16
    return np.broadcast_to(levels[:, None, None], (SHAPE[0], 16, 16)).astype(np.float16)


def images():
    """Case → image and lesion (z, y, x)."""
    random = np.random.default_rng(0)
    lesion = np.zeros(SHAPE, bool)
    lesion[1:4, 4:12, 5:11] = True
    return {
        case: (random.integers(0, 60, SHAPE, dtype=np.int16) + 30 * lesion, lesion)
        for case in (*MISSES, "unseen")
    }


def write_results(root):
    """Three tested cases and one without reference; `later` is not predicted yet. The layout."""
    tree = ResultsTree(root)
    for case, (image, lesion) in images().items():
        source = turned(image, GRID)[1] if case == "turned" else GRID
        label = None if case == "unseen" else lesion.astype(np.uint8)
        tree.add_case(case, image.astype(np.int16), label, source_grid=attributes_of(source))
        for name, sign in (("mrm", 1), ("signed", -1)):
            maps = np.stack([values(place) * sign for place in range(2)])
            store = tree.layout.residual_store(name, case)
            write_store(store, {"residual": maps}, {"fingerprint": case}, slice_axis=1)
    tree.write_split([list(MISSES)])
    for name in ("unetpp", "grcsf"):
        probabilities = {
            case: np.roll(lesion * 0.9, MISSES.get(case, 0) if name == "unetpp" else 0, axis=2)
            for case, (_, lesion) in images().items()
        }
        tree.add_predictions(name, 1, probabilities)
        postprocess(tree.layout, name, 1, DATASET.postprocess)
        evaluate(tree.layout, name, (1,), DATASET.evaluation, DATASET.postprocess, 0, 1)
    return tree.layout


def asked(server, path, *, token=None, method="GET", **headers):
    """Status, headers and body of a request for a path below the token."""
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    whole = f"/{server.token if token is None else token}/{path}"
    host = {} if "Host" in headers else {"Host": f"127.0.0.1:{server.server_port}"}
    connection.putrequest(method, whole, skip_host=True)
    for name, value in {**host, **headers}.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.headers, body
