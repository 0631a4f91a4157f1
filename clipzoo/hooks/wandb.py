"""Runs in Weights & Biases."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from clipzoo.hooks.tracker import COLUMNS, Ending, Start, Tracker
from clipzoo.registries import HOOKS

# Nothing but what the hook sends: no terminal output, which may name cases, no code, repository, command line, host or user.
_OFF = ("disable_code", "disable_git", "x_disable_machine_info", "x_disable_meta")
_PRIVATE = {"silent": True, "host": "", "console": "off", "save_code": False, **dict.fromkeys(_OFF, True)}
_OFFLINE = ("offline", "dryrun")  # the latter is its old name


@HOOKS.register_module()
class WandbHook(Tracker):
    """Sends a run to Weights & Biases; see ``Tracker``. Its own files are in ``<work dir>/wandb``.

    Args:
        project: Project; ``None`` for ``$WANDB_PROJECT``, or ``'clipzoo'``.
        entity: User or team; ``None`` for the default of the account.
        mode: ``'online'``, or ``'offline'``, which only writes files that ``wandb sync`` sends later. ``None`` for ``$WANDB_MODE``, or
            online after ``wandb login``, otherwise offline. With ``WANDB_MODE=disabled`` and after ``wandb disabled`` nothing is sent.
        report: See ``Tracker``.
    """

    package = "wandb"

    def __init__(
        self, project: str | None = None, entity: str | None = None, mode: Literal["online", "offline"] | None = None, report: bool = False
    ):
        super().__init__(report)
        self.project, self.entity, self.mode = project, entity, mode
        self._run = None

    def is_off(self) -> bool:
        """See ``Tracker.is_off``."""
        return self._mode() == "disabled"

    def open(self, start: Start) -> str:
        """See ``Tracker.open``. Offline runs cannot be continued: another folder with the same id is written."""
        import wandb

        mode = self._mode()
        self._run = wandb.init(
            project=self.project or os.environ.get("WANDB_PROJECT") or "clipzoo",
            entity=self.entity,
            group=start.group,
            name=f"{start.group}/{start.name}",
            job_type=start.name.rstrip("_0123456789"),
            id=start.id,
            config=start.config,
            dir=str(start.folder),
            mode=mode,
            resume=None if mode in _OFFLINE else "allow",
            reinit="create_new",
            settings=wandb.Settings(**_PRIVATE),
        )
        where = self._run.url if mode not in _OFFLINE else f"offline; send it with: wandb sync {Path(self._run.dir).parent}"
        start.log.info(f"WandbHook: {where}")
        return start.id

    def send(self, values: Mapping[str, float], at: int) -> None:
        """See ``Tracker.send``."""
        self._run.log(dict(values), step=at)

    def send_final(self, values: Mapping[str, float], table: Sequence[Sequence[str | float]] = ()) -> None:
        """See ``Tracker.send_final``."""
        import wandb

        self._run.summary.update(values)
        if table:
            self._run.log({"results": wandb.Table(columns=list(COLUMNS), data=[list(row) for row in table])})

    def send_files(self, paths: Sequence[Path]) -> None:
        """See ``Tracker.send_files``."""
        import wandb

        artifact = wandb.Artifact(f"results-{self._run.id}", "results")
        for path in paths:
            artifact.add_file(str(path))
        self._run.log_artifact(artifact)

    def close(self, ending: Ending) -> None:
        """See ``Tracker.close``."""
        self._run.finish(exit_code=0 if ending == "finished" else 1)

    def _mode(self) -> str:
        """The mode of the config, the environment or the settings of the package, in this order."""
        import wandb

        chosen = self.mode or os.environ.get("WANDB_MODE") or wandb.setup().settings.mode
        is_default = chosen == "online" and not self.mode and not os.environ.get("WANDB_MODE")
        return "offline" if is_default and not wandb.login(prompt=False, verify=False) else chosen
