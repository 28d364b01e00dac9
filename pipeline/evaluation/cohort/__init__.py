"""A cohort to which a trained model was applied: what its masks measure, its table and its page.

- `measures`: volume, lesions and calcium of a mask.
- `table`: a row for every scan, as CSV and Parquet.
- `extremes`: which scans to look at first.
- `page`: distributions, scans that were set aside, and pictures of the extremes.
"""
