"""The jobs of a grid as tasks of a Ray cluster, each with its share of processors and GPUs (https://docs.ray.io)."""

from __future__ import annotations

from collections.abc import Mapping

from clipzoo.errors import BuildError, ConfigError, first_line
from clipzoo.grid.remote import RemoteJob, prepared
from clipzoo.grid.running import Grid, Outcome
from clipzoo.signals import Interrupt

_TURN = 0.5  # seconds between two looks at the tasks
_KNOWN = ("address", "num_cpus", "num_gpus")


def run_on_ray(grid: Grid, options: Mapping[str, object], at_once: int | None = None) -> list[Outcome]:
    """Run the jobs that are not done as tasks of a running cluster, and wait for them.

    Args:
        grid: The jobs.
        options: ``num_cpus`` and ``num_gpus`` of each job (1 and 0 by default; half a GPU is 0.5), and ``address`` of the cluster
            (``'auto'`` by default).
        at_once: Largest number of jobs at the same time; ``None`` for as many as the cluster has room for.

    Raises:
        BuildError: Ray is not installed, or there is no cluster.
        ConfigError: An option is unknown or wrong.
        Stopped: A signal; the tasks are cancelled, and write their checkpoints.
    """
    try:
        import ray
    except ImportError as error:
        raise BuildError("--launcher ray: requires the package ray. Run pip install ray") from error
    unknown = [name for name in options if name not in _KNOWN]
    if unknown:
        raise ConfigError(f"--launcher-options: {unknown[0]} is not for ray. Known: {', '.join(_KNOWN)}")
    shares = {"num_cpus": options.get("num_cpus", 1), "num_gpus": options.get("num_gpus", 0)}
    try:
        ray.init(address=options.get("address", "auto"), log_to_driver=False, ignore_reinit_error=True)
        remote = ray.remote(max_retries=0, **shares)(_train)
    except (ConnectionError, ValueError, TypeError) as error:
        first = (str(error).strip().splitlines() or ["no cluster"])[0].rstrip(".")
        raise BuildError(f"--launcher ray: {first}. Start the cluster with ray start --head, or name it with address=HOST:PORT") from error
    waiting, running = list(reversed(prepared(grid))), {}
    with Interrupt().listening() as interrupt:
        while (waiting or running) and interrupt.signal is None:
            while waiting and (at_once is None or len(running) < at_once):
                job = waiting.pop()
                running[remote.remote(RemoteJob.of(grid, job))] = job
            for reference in ray.wait(list(running), timeout=_TURN)[0]:
                job = running.pop(reference)
                try:
                    grid.note(grid.outcome(job, *ray.get(reference)))
                except ray.exceptions.RayError as error:
                    grid.note(Outcome(job, "failed", 0.0, f"{first_line(error, 2000)}; run the same command to resume"))
        for reference in running:
            ray.cancel(reference)
        ray.wait(list(running), num_returns=len(running), timeout=60) if running else None
    return grid.in_order()


def _train(job: RemoteJob) -> tuple[int, float]:
    return job()
