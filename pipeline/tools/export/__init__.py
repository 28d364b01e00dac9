"""`grcsf export` and `grcsf predict IMAGE…`: a trained run that predicts any image.

- `members`: the networks of a bundle, and the names of their files.
- `export`: writes a run as one zip.
- `bundle`: what such a zip holds; opens it again.
- `model_card`: the page in the zip: what the model is, and what it is not for.
- `bundle_checks`: compares a bundle's zip and weights with its settings before any is used.
- `working_tree`: where a prediction works.
- `predict_images`: sends images through the stages with an opened bundle.
- `named_images`: their names, and those of what is written.
- `dicom_seg`: which images can have a DICOM SEG as mask, and what it says about the bundle.
- `page`: the picture beside each predicted mask.
"""
