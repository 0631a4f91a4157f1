"""Runs in SwanLab."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Literal

from clipzoo.errors import ConfigError
from clipzoo.hooks.tracker import COLUMNS, Ending, Start, Tracker
from clipzoo.registries import HOOKS
from clipzoo.signals import unchanged
from clipzoo.text import csv_text

_PROBES = ("hardware", "runtime", "requirements", "conda", "git", "swanlab", "monitor")  # of the machine, its user and the code


@HOOKS.register_module()
class SwanLabHook(Tracker):
    """Sends a run to SwanLab; see ``Tracker``. Its own files are in ``<work dir>/swanlab``.

    SwanLab has one run per process: a training that starts while another one's run is open gets a warning in its log, and is not sent.

    Args:
        project: Project, of letters (a-z), digits and ``_-+.``; ``None`` for ``$SWANLAB_PROJ_NAME``, or ``'clipzoo'``.
        mode: ``'online'``, or ``'offline'``, which only writes files that ``swanlab sync`` sends later. ``None`` for ``$SWANLAB_MODE``
            (``'local'``, which SwanLab no longer maintains, is offline), or online after ``swanlab login``, otherwise offline.
        report: See ``Tracker``.
    """

    package = "swanlab"

    def __init__(self, project: str | None = None, mode: Literal["online", "offline"] | None = None, report: bool = False):
        if project is not None and not re.fullmatch(r"[\w+.-]{1,100}", project, re.ASCII):
            raise ConfigError(f"SwanLabHook.project: {project!r} is not a name of at most 100 letters (a-z), digits and _ - + .")
        super().__init__(report)
        self.project, self.mode = project, mode

    def is_off(self) -> bool:
        """See ``Tracker.is_off``."""
        return (self.mode or os.environ.get("SWANLAB_MODE")) == "disabled"

    def open(self, start: Start) -> str:
        """See ``Tracker.open``. Offline runs cannot be continued: another folder with the same id is written."""
        import swanlab

        if swanlab.has_run():
            raise RuntimeError("SwanLab has one run per process, and another one is open")
        settings = swanlab.Settings(probe=dict.fromkeys(_PROBES, False), terminal={"proxy_type": "none"}, interactive=False)
        mode = self.mode or os.environ.get("SWANLAB_MODE", "").replace("local", "offline") or ("online" if settings.api_key else "offline")
        project, logs = self.project or settings.project.name or "clipzoo", str(start.folder / "swanlab")
        names = {"project": project, "group": start.group, "name": f"{start.group}/{start.name}", "id": start.id}
        config = {name: "None" if value is None else value for name, value in start.config.items()}
        with unchanged(), redirect_stdout(io.StringIO()):  # no greetings; the engine itself ends the run after Ctrl-C
            self._run = swanlab.init(**names, config=config, log_dir=logs, mode=mode, resume="allow", settings=settings)
        sync = f"{self._run.mode}; send it with: swanlab sync --id {start.id} {self._run.dir}"
        start.log.info(f"SwanLabHook: {self._run.url if self._run.mode == 'online' else sync}")
        return start.id

    def send(self, values: Mapping[str, float], at: int) -> None:
        """See ``Tracker.send``."""
        self._run.log(dict(values), step=at)

    def send_final(self, values: Mapping[str, float], table: Sequence[Sequence[str | float]] = ()) -> None:
        """See ``Tracker.send_final``."""
        from swanlab import Text

        self._run.log({**values, **({"results": Text(csv_text([COLUMNS, *table]))} if table else {})})

    def send_files(self, paths: Sequence[Path]) -> None:
        """See ``Tracker.send_files``."""
        with redirect_stdout(io.StringIO()):
            for path in paths:
                self._run.save(path.absolute(), base_path=path.absolute().parent, policy="now")

    def close(self, ending: Ending) -> None:
        """See ``Tracker.close``."""
        with unchanged(), redirect_stdout(io.StringIO()):
            state = {"finished": "success", "failed": "crashed", "interrupted": "aborted"}[ending]
            self._run.finish(state, error=None if ending == "finished" else ending)
