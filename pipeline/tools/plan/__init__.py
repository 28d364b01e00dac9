"""`grcsf plan`: jobs, disk and hours of a run, before anything runs.

The estimates themselves are in `pipeline/planning`.

- `plan`: the plan of each data set, stage by stage.
- `table`: plans as Markdown and as records.
"""
