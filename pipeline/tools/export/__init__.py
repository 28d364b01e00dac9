"""`grcsf export` and `grcsf predict IMAGE…`: a trained run that predicts any image.

- `export`: writes a run as one zip.
- `model_card`: the page in the zip: what the model is, and what it is not for.
- `working_tree`: where a prediction works.
- `predict_images`: sends images through the stages with an opened bundle.
- `named_images`: their names, and those of what is written.
- `page`: the picture beside each predicted mask.
"""
