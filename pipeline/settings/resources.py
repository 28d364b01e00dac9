"""What a job may use: for all jobs, and for one training in particular; where stores are kept."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.settings.section import Count, Positive, Section, require

Cache = Literal["memory", "device"]
Keep = Literal["always", "until_predicted"]


class Resources(Section):
    """What a job may use; it changes no result, except rounding with several GPUs or `compile`."""

    threads: Positive = 2
    gpus: Count = 0
    nodes: Positive = 1
    workers: Count = 0
    cache_mb: Count = 2_000
    cache: Cache = "memory"
    slices_per_batch: Positive | None = None
    compile: bool = False
    cases_per_job: Positive = 40
    memory_mb: Positive = 16_000
    minutes: Positive = 1_440

    @property
    def device(self) -> str:
        """The device for networks: `cuda`, or `cpu` without a GPU."""
        return "cuda" if self.gpus else "cpu"

    @property
    def cache_device(self) -> str:
        """The device on which a training's slices stay."""
        return self.device if self.cache == "device" else "cpu"

    @property
    def slices_at_once(self) -> int:
        """How many slices are reconstructed or predicted together; a GPU takes more."""
        return self.slices_per_batch or (64 if self.gpus else 8)

    @property
    def readers(self) -> int:
        """How many processes of a node read a training's slices, each with a cache of its own."""
        return max(1, self.gpus) * max(1, self.workers)

    @property
    def processes(self) -> int:
        """How many processes train one network together: one per GPU, or per node without GPUs."""
        return self.nodes * max(1, self.gpus)


class TrainingResources(Section):
    """What one training may use; a key given here replaces that of `resources`."""

    threads: Positive | None = None
    gpus: Count | None = None
    nodes: Positive | None = None
    workers: Count | None = None
    cache_mb: Count | None = None
    cache: Cache | None = None
    compile: bool | None = None
    memory_mb: Positive | None = None
    minutes: Positive | None = None

    def over(self, resources: Resources) -> Resources:
        """A copy of `resources` with the keys given here in place of its own."""
        return resources.model_copy(update=self.model_dump(exclude_none=True))


class Store(Section):
    """Where residual stores lie, how long, and how stores are read; it changes no result."""

    root: str | None = None
    codecs: Literal["zarr", "zarrs"] = "zarr"
    # left out where it is not set, as settings from before it was known do
    keep: Annotated[Keep, Field(exclude_if=lambda keep: keep == "always")] = "always"

    @model_validator(mode="after")
    def _keep_what_is_shared(self) -> Self:
        found = "keep: found until_predicted beside a root, whose maps other projects use"
        require(self.root is None or not self.gives_back, f"{found}; expected one of the two")
        return self

    @property
    def gives_back(self) -> bool:
        """Whether residual maps are deleted once no job of the plan reads them."""
        return self.keep == "until_predicted"
