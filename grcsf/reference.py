"""Residual maps as the equations read (section 3.3.1, Eq. 3–5): the check of the batched form."""

from collections.abc import Sequence

import torch
from torch import Tensor

from grcsf.mae.build import MaskedModel
from grcsf.resampling import resize
from grcsf.residuals import Kind, Visible, least_residual, patch_pixels, residual_map


@torch.no_grad()
def reference_residuals(
    models: Sequence[MaskedModel],
    images: Tensor,
    masks: Sequence[Tensor],
    *,
    visible: Visible,
    kind: Kind,
    counted: Sequence[Tensor] | None = None,
) -> Tensor:
    """`multi_ratio_residuals` as the equations read: one slice and one pass at a time, in float32.

    Tests and a benchmark check the batched form against it. Arguments and result are the same.
    """
    maps = []
    for place, (model, ratio_masks) in enumerate(zip(models, masks, strict=True)):
        residuals = []
        for z, (image, slice_masks) in enumerate(
            zip(torch.split(images, 1), ratio_masks, strict=True)
        ):
            small = resize(image, (model.image_size, model.image_size), clamp=True)
            total, weight = torch.zeros_like(small), torch.zeros_like(small)
            for mask in torch.split(slice_masks, 1):
                predicted = model.unpatchify(model(small, mask))
                hidden = patch_pixels(model, mask).to(small.device)
                if visible == "paste":
                    total += torch.where(hidden, predicted, small)
                    weight += 1
                elif visible == "ignore":
                    total += torch.where(hidden, predicted, torch.zeros_like(small))
                    weight += hidden
                else:
                    total += predicted
                    weight += 1
            mean = torch.where(weight > 0, total / weight.clamp(min=1), small).clamp(0.0, 1.0)
            if counted is not None:
                inside = patch_pixels(model, counted[place][z : z + 1]).to(small.device)
                mean = torch.where(inside, mean, small)
            residual = residual_map(small, mean, kind)
            if counted is not None:
                residual = torch.where(inside, residual, torch.zeros_like(residual))
            height, width = images.shape[-2:]
            resized = resize(residual, (height, width))
            residuals.append(resized.clamp(least_residual(kind), 1.0))
        maps.append(torch.cat(residuals))
    return torch.cat(maps, dim=1)
