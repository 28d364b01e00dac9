"""The method: arrays and tensors in and out; no files, no command line, no settings objects.

Arrays are `(z, y, x)`; tensors are `(batch, channel, y, x)`; intensities are in [0, 1].
"""
