"""Runs in Trackio."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from contextvars import Context
from pathlib import Path

from clipzoo.hooks.tracker import COLUMNS, Ending, Start, Tracker
from clipzoo.registries import HOOKS


@HOOKS.register_module()
class TrackioHook(Tracker):
    """Sends a run to Trackio; see ``Tracker``. Trackio marks no run as failed or interrupted.

    Args:
        project: Name of the project.
        space_id: Hugging Face Space (``'owner/name'``), created private if it does not exist. ``None`` for ``$TRACKIO_SPACE_ID``, or the
            server ``$TRACKIO_SERVER_URL``, or a local database in the folder ``$TRACKIO_DIR``.
        report: See ``Tracker``.
    """

    package = "trackio"

    def __init__(self, project: str = "clipzoo", space_id: str | None = None, report: bool = False):
        super().__init__(report)
        self.project, self.space_id = project, space_id
        self._run = None

    def open(self, start: Start) -> str:
        """See ``Tracker.open``. Trackio finds runs by name, so the name has the first characters of the id."""
        import trackio

        with redirect_stdout(io.StringIO()):
            self._run = Context().run(  # an empty context: Trackio would end the run that is open in this one
                trackio.init,
                project=self.project,
                name=f"{start.group}/{start.name} {start.id[:6]}",
                group=start.group,
                space_id=self.space_id,
                config=start.config,
                resume="allow",
                private=True,
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        self._run.config["_Username"] = None
        where = self._run.url or f"local database; open it with: trackio show --project {self.project}"
        start.log.info(f"TrackioHook: {where}")
        return start.id

    def send(self, values: Mapping[str, float], at: int) -> None:
        """See ``Tracker.send``."""
        self._run.log(dict(values), step=at)

    def send_final(self, values: Mapping[str, float], table: Sequence[Sequence[str | float]] = ()) -> None:
        """See ``Tracker.send_final``."""
        import trackio

        results = {"results": trackio.Table(columns=list(COLUMNS), data=[list(row) for row in table])} if table else {}
        self._run.log({**values, **results})

    def send_files(self, paths: Sequence[Path]) -> None:
        """See ``Tracker.send_files``."""
        import trackio

        artifact = trackio.Artifact(f"results-{self._run.id}", "results")
        for path in paths:
            artifact.add_file(str(path))
        self._run.log_artifact(artifact)

    def close(self, ending: Ending) -> None:
        """See ``Tracker.close``."""
        with redirect_stdout(io.StringIO()):
            self._run.finish()
