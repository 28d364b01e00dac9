"""`grcsf init`: a configuration for a folder of one's own.

- `survey`: what lies in the folder: its cases as listed, and a sample of them read.
- `proposal`: the value of each key that follows from the survey, and what was seen that led to it.
- `init`: writes them into a commented configuration, by the template beside it.
"""
