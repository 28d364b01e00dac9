"""Where autocast stays out."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


def without_autocast(tensor: Tensor) -> AbstractContextManager[Any]:
    """A context in which autocast is off on the tensor's device, if it exists there at all."""
    kind = tensor.device.type
    if not torch.amp.autocast_mode.is_autocast_available(kind):
        return nullcontext()
    return torch.autocast(kind, enabled=False)
