"""Predictions of experiments that have no training of their own, in the stores of networks.

This room may import `grcsf`, errors, settings, storage, datasets and networks; evaluation, the
stages and every later room may import it. A plan asks it for inputs, so it imports torch and
SimpleITK only where it predicts.

- `predictor`: what stage `predict` has to know of any way of predicting.
- `inputs`: the files that the predictions of such an experiment rest on.
- `sam`: SAM, in boxes round the masks of another experiment.
- `given`: masks that another tool or person has made.
- `bundle`: unpacks what `grcsf export` wrote; `bundle_checks` compares it with its settings first.
- `dicom_seg`: which images can have a DICOM SEG as mask, and what it says about the bundle.
- `ensemble`: the mean of what several networks have predicted, and how far they disagree.
"""
