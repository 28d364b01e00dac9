"""What a job's command runs in: this Python, with --sdm a conda environment or the container."""

import os
import shlex

from snakemake.logging import logger
from snakemake.settings.types import DeploymentMethod

from pipeline.orchestration.locks import lock_environments, release

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
if METHODS & {DeploymentMethod.CONDA, DeploymentMethod.APPTAINER}:
    # what lies in ~/.local would be imported, and would count as installed when pip makes one
    os.environ.update(PYTHONNOUSERSITE="1")
else:
    PREFIX += f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH; "
if DeploymentMethod.CONDA in METHODS:
    # conda puts an environment in the place of `base`, which is behind a .venv activated after it
    PREFIX += "export PATH=$CONDA_PREFIX/bin:$PATH; "
shell.prefix(PREFIX.replace("{", "{{").replace("}", "}}"))

# Of two calls that make the same environment, each deletes what the other has begun.
ENVIRONMENTS = None
planning = workflow.output_settings.dryrun  # workflow.dryrun is not known before the plan
if DeploymentMethod.CONDA in METHODS and workflow.is_main_process and not planning:
    folder = Path(workflow.deployment_settings.conda_prefix or ".snakemake/conda")
    ENVIRONMENTS = or_exit(lock_environments, folder, logger.info)


def release_environments():
    """Let other calls make environments; those of this one are made before its first job."""
    if ENVIRONMENTS:
        release(ENVIRONMENTS)
