"""A trained model applied to a cohort: the data set that follows from a bundle and a few keys.

- `section`: the section `apply`, and its short form beside `--config`.
- `members`: the networks of a bundle, and the names of their files.
- `bundle`: reads what a bundle says of itself, without its weights.
- `cohort`: the configuration with the data set that a bundle makes of a cohort.
"""
