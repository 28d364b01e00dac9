"""`grcsf trace`: follows a result back to the raw files, through the records beside all results.

- `trace`: builds the chain of jobs, and compares every file with its record.
- `lineage`: the chain, its jobs and the links between them.
- `patients`: the patient that a trace follows, and the results that count the patient.
- `text`: the chain as a tree for a terminal and as records.
"""
