"""The jobs of a grid as a job array on Slurm, by submitit (https://github.com/facebookincubator/submitit)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from clipzoo.errors import BuildError, ConfigError, first_line
from clipzoo.grid.remote import RemoteJob, prepared
from clipzoo.grid.running import Grid, Outcome
from clipzoo.signals import Interrupt

_TURN = 0.5  # seconds between two looks at the jobs
# Slurm's warning before a time limit, by submitit's default, goes to every process of a job and would end the training at once.
_UNWARNED = ("sh", "-c", "trap '' USR2; exec \"$@\"", "sh")


class SlurmJob(RemoteJob):
    """A job that Slurm may interrupt at its time limit, or for others: it is queued again, and goes on from its checkpoint."""

    def checkpoint(self) -> Any:
        """Called by submitit before it queues the job again."""
        from submitit.helpers import DelayedSubmission

        self.end()
        return DelayedSubmission(self)


def run_on_slurm(grid: Grid, options: Mapping[str, object], at_once: int | None = None, cluster: str = "slurm") -> list[Outcome]:
    """Submit the jobs that are not done as one array, and wait for them.

    Args:
        grid: The jobs.
        options: Parameters of submitit's executor, such as ``slurm_partition``, ``gpus_per_node``, ``timeout_min``.
        at_once: Largest number of jobs at the same time; ``None`` for no limit.
        cluster: submitit's name of the engine; ``'local'`` runs the jobs on this machine.

    Raises:
        BuildError: submitit is not installed, or there is no Slurm.
        ConfigError: An option is unknown or wrong.
        Stopped: A signal; the jobs are cancelled, and write their checkpoints.
    """
    try:
        import submitit
    except ImportError as error:
        raise BuildError("--launcher slurm: requires the package submitit. Run pip install submitit") from error
    limit = {"slurm_array_parallelism": at_once} if at_once else {}
    try:
        executor = submitit.AutoExecutor(folder=grid.folder.absolute() / "slurm", cluster=cluster)
        executor.update_parameters(**{"name": "clipzoo", **limit, **options})
    except RuntimeError as error:
        raise BuildError(f"--launcher slurm: {first_line(error, 2000)}. Start it where sbatch and srun are") from error
    except (NameError, TypeError, ValueError) as error:
        raise ConfigError(f"--launcher-options: {first_line(error, 2000)}") from error
    todo = prepared(grid)
    with Interrupt().listening() as interrupt:
        with executor.batch():  # one job array
            submitted = [executor.submit(SlurmJob.of(grid, job, _UNWARNED)) for job in todo]
        waiting = {job.name: (job, handle) for job, handle in zip(todo, submitted, strict=True)}
        while waiting:
            for name, (job, handle) in list(waiting.items()):
                if handle.done():
                    del waiting[name]
                    grid.note(_outcome(grid, job, handle))
            if interrupt.signal is not None:
                for _, handle in waiting.values():
                    handle.cancel()
                break
            time.sleep(_TURN)
    return grid.in_order()


def _outcome(grid: Grid, job: Any, handle: Any) -> Outcome:
    """The outcome of a job that Slurm has finished, one way or the other."""
    from submitit.core.utils import UncompletedJobError

    try:
        return grid.outcome(job, *handle.result())
    except UncompletedJobError as error:
        return Outcome(job, "stopped", 0.0, f"{first_line(error, 2000)}; run the same command to resume")
    except Exception as error:  # of the job: submitit raises it again here
        return Outcome(job, "failed", 0.0, f"{first_line(error, 2000)} (see {handle.paths.stderr})")
