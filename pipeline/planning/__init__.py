"""Before the first job: what will fail, how much disk a run takes, and how long.

It reads no image and leaves no file behind. This room may import settings, storage, datasets,
networks and what lies below them; `tools`, `cli` and the workflow may import it.

- `batches`: into how many batches each stage divides a data set's cases.
- `folds`: what folds have of their own, and what serves all of them.
- `preflight`: faults that are known before the first job.
- `sizes`: sizes of cases and stores, from names and headers; it imports no torch.
- `disk`: the disk of all results, trained networks included.
- `network_costs`: parameters and multiplications of networks, counted on shapes.
- `workload`: multiplications of each stage of a run.
- `rates`: how fast machines multiply; `rates.json` is its data.
"""
