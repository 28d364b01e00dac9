"""What a job may use: for all jobs, and for one training in particular."""

from __future__ import annotations

from pipeline.settings.section import Count, Positive, Section


class Resources(Section):
    """What a job may use. It changes no result, but for rounding: several GPUs, and `compile`."""

    threads: Positive = 2
    gpus: Count = 0
    nodes: Positive = 1
    workers: Count = 0
    cache_mb: Count = 2_000
    slices_per_batch: Positive | None = None
    compile: bool = False
    cases_per_job: Positive = 40
    memory_mb: Positive = 16_000
    minutes: Positive = 1_440

    @property
    def device(self) -> str:
        """What networks compute on: `cuda`, or `cpu` without a GPU."""
        return "cuda" if self.gpus else "cpu"

    @property
    def slices_at_once(self) -> int:
        """Slices that are reconstructed or predicted together; on a GPU as many as fill it."""
        return self.slices_per_batch or (64 if self.gpus else 8)

    @property
    def readers(self) -> int:
        """Processes of a node that read a training's slices, each with a memory of its own."""
        return max(1, self.gpus) * max(1, self.workers)

    @property
    def processes(self) -> int:
        """Processes that train one network together: one a GPU, or one a node without any."""
        return self.nodes * max(1, self.gpus)


class TrainingResources(Section):
    """What one training may use in place of `resources`, where given."""

    threads: Positive | None = None
    gpus: Count | None = None
    nodes: Positive | None = None
    workers: Count | None = None
    cache_mb: Count | None = None
    memory_mb: Positive | None = None
    minutes: Positive | None = None

    def over(self, resources: Resources) -> Resources:
        """These, and for the rest what every job may use."""
        return resources.model_copy(update=self.model_dump(exclude_none=True))
