"""`grcsf export` and `grcsf predict IMAGE…`: a trained run that predicts any image.

- `bundle`: writes a run as one zip, and opens it again.
- `model_card`: the page in the zip: what the model is, and what it is not for.
- `bundle_checks`: compares a bundle's zip and weights with its settings before any is used.
- `working_tree`: where a prediction works.
- `predict_images`: sends images through the stages with an opened bundle.
- `dicom_seg`: which images can have a DICOM SEG as mask, and what it says about the bundle.
- `page`: the picture beside each predicted mask.
"""
