"""Tensors to another device, without waiting for the work queued there."""

import torch
from torch import Tensor


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device, or itself where it is there already.

    A copy to a GPU from ordinary memory waits until the GPU's queue is done. A copy from pinned
    memory joins the queue.
    """
    if tensor.device == device or device.type != "cuda":
        return tensor.to(device)
    return (tensor.pin_memory() if tensor.device.type == "cpu" else tensor).to(
        device, non_blocking=True
    )
