"""Snakemake that asks for its jobs' states every second, where its executor waits ever longer."""

import asyncio
import sys

from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor


async def a_second(_: RemoteExecutor) -> None:
    await asyncio.sleep(1)


RemoteExecutor.sleep = a_second
sys.exit(main())
