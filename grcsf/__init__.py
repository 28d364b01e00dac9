"""The method of the paper: masked autoencoders, residual maps, networks, losses and scores.

Arrays and tensors in, arrays and tensors out: nothing here knows files, settings, environment
variables or the command line. `pipeline` imports this room; it imports nothing of `pipeline`.

Arrays are `(z, y, x)`; tensors are `(batch, channel, y, x)`; network inputs are in [0, 1].

From slices to masks:

- `intensity`: a source's units to [0, 1]
- `resampling`: slices and maps at another size
- `mae`: masked autoencoders that reconstruct healthy slices
- `residuals`: residual maps, batched; `reference`: the same as the equations read
- `models`: segmentation networks
- `losses`, `schedule`: losses and learning rates of training
- `augmentation`: slices varied for training, with their maps and label
- `transfer`: tensors to a device without waiting
- `autocast`: parts that lower precision leaves alone

From masks to scores:

- `metrics`: voxel counts and their scores
- `components`: connected components and their volumes
- `lesions`: scores by lesion, groups by lesion size
- `calcium`: calcium candidates, votes, post-processing, matching
- `agatston`: calcium scores and risk groups
- `agreement`: kappa, ICC, limits of agreement
- `statistics`: means by group, intervals, paired tests

To look into a method:

- `complexity`: parameters, operations, memory
- `contrast`: residual maps in lesions against their surroundings
- `grad_cam`, `inside`: what a network attends to
- `contributions`: how much its units change
"""
