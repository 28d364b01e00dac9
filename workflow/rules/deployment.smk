"""What a job's command runs in: this Python, with --sdm a conda environment or the container."""

import shlex

from snakemake.settings.types import DeploymentMethod

METHODS = set(workflow.deployment_settings.deployment_method)
IMAGE = CHECKOUT / "envs" / "grcsf.sif"
if DeploymentMethod.APPTAINER in METHODS and not IMAGE.exists():
    sys.exit(f"error: {IMAGE}: not there; apptainer build {IMAGE} {IMAGE.with_suffix('.def')}")


# read with --sdm apptainer only
container: str(IMAGE)


# Environment and container hold what a stage imports, but not this package; and they bring their
# own python, while without them the python that runs Snakemake is the one.
PREFIX = "set -euo pipefail; "
PREFIX += f"export PYTHONPATH={shlex.quote(str(CHECKOUT))}${{PYTHONPATH:+:$PYTHONPATH}}; "
if not METHODS & {DeploymentMethod.CONDA, DeploymentMethod.APPTAINER}:
    PREFIX += f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH; "
shell.prefix(PREFIX.replace("{", "{{").replace("}", "}}"))
