"""`grcsf check`: all faults of a data set, its description, and the disk that a run needs.

- `check`: reads every case, and collects the findings.
- `plausibility`: warnings about cases without fault.
- `record`: the result as `check.json`.
- `summary`: the result in words, for page and terminal.
- `page`: the result as `check.html`.
- `table`: the result on the terminal.
"""
