"""Tensors to another device, without waiting for what that device has still to do."""

import torch
from torch import Tensor


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device, or itself where it is there already.

    From ordinary memory a copy to a GPU waits until all that is queued there is done; from pinned
    memory it is queued with the rest.
    """
    if tensor.device == device or device.type == "cpu":
        return tensor.to(device)
    return (tensor.pin_memory() if tensor.device.type == "cpu" else tensor).to(
        device, non_blocking=True
    )
