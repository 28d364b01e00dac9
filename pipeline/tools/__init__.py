"""Commands that are no stage: a folder for each, or a module if one is enough.

A command here asks something of a configuration, a network or a result, or takes results out; no
rule waits for it, and no result depends on it. It may import every room but `cli`; only `cli`
imports it, one command at a time and inside the command.

- `check`: every fault of a data set, before any stage runs.
- `complexity`: parameters, multiplications, memory and seconds of each method.
- `derivatives`: masks with the names of BIDS derivatives.
- `explain`: pictures of the masked passes and of the network's units.
- `export`: a trained run as one zip, and the images that it predicts.
- `init`: a configuration for a folder of one's own.
- `plan`: jobs, disk and hours of a run.
- `store`: lists, verifies and prunes stores, and exports residual maps.
- `submission`: the masks of orCaScore's test scans in the challenge's form.
- `trace`: a result's way back to the raw files.
- `view`: cases in three planes with their layers, in a browser.

A new command is a module here, and its verb in `pipeline/cli/`.
"""
