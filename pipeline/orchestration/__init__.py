"""Around a job: locks, records, what changed since, and what a killed run left.

Stages know nothing of this room. `planning`, `tools`, `cli` and the workflow's rules import it; it
imports errors, settings, storage, datasets and networks, and no stage but for `maps_read`.

- `call`: a call of snakemake: check before the plan, lock, prepare, finish.
- `locks`: one call on a data set and one process on a result at a time; what was stopped half-way.
- `changed_results`: results that were deleted, edited or damaged since their job wrote them.
- `last_run`: what a call leaves for the next one: its code, and where it was recorded.
- `applied_files`: the same of an applied model.
- `given_back`: residual maps that are deleted once no job of a plan reads them.
- `maps_read`: which residual maps those are, by what trainings and predictions compare.
- `job_files`: which files a job reads and declares, and all results of a configuration.
- `raw_files`: the raw files behind the stores of ingest, for its record.
- `record_writer`: keeps the record beside every result while a job runs.
- `record_reader`: finds the record of a file and reads it.
- `environment`: device, packages, memory and commit of a process, for its record.
- `failed_job`: the lines with which a failed job's log ends.
- `cluster_jobs`: cancels SLURM jobs that a killed run left behind.
"""
