"""Segmentation networks: images and residual maps to logits (section 3).

Tensors in and out; nothing here knows files, settings or the command line.

- `build`: every network by name; sizes and names live there alone
- `blocks`: base classes and parts that all networks share
- `unet`, `unetpp`: U-shaped backbones
- `mobilenet`: an encoder for them
- `mae_unet`: a U-shaped decoder on an MAE's encoder
- `grcsf`: a backbone with compensation units
- `gcu`: the Global Compensation Unit; `attention`: alternatives to its squeeze and excitation
- `skip_attention`: other units on the skips
- `rcu`: the Regional Compensation Unit
- `peers`: the other networks of Table 1; `build_peers`: the same at any width; `peer_sizes`: which
  sizes they can have
"""
