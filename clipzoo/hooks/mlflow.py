"""Runs in MLflow."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from clipzoo.hooks.tracker import COLUMNS, Ending, Start, Tracker
from clipzoo.registries import HOOKS
from clipzoo.text import csv_text

_NOT_IN_KEYS = re.compile(r"[^/\w.\- :]")
_LONGEST_VALUE = 6000  # characters; MLflow refuses longer ones
_MOST_AT_ONCE = 100  # parameters
_STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


@HOOKS.register_module()
class MLflowHook(Tracker):
    """Sends a run to MLflow; see ``Tracker``. The work dir is an experiment, and every fold a run in it.

    Args:
        tracking_uri: Server, database or folder; ``None`` for ``$MLFLOW_TRACKING_URI``, or MLflow's own default, which is a file in the
            current folder.
        experiment: Name of the experiment; ``None`` for the name of the work dir.
        report: See ``Tracker``.
    """

    package = "mlflow"

    def __init__(self, tracking_uri: str | None = None, experiment: str | None = None, report: bool = False):
        super().__init__(report)
        self.tracking_uri, self.experiment = tracking_uri, experiment
        self._client, self._id = None, ""

    def open(self, start: Start) -> str:
        """See ``Tracker.open``."""
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client = client = MlflowClient(tracking_uri=self.tracking_uri)
        if not start.is_new:
            self._id = start.id
            client.update_run(self._id, status="RUNNING")
            return self._id
        name = self.experiment or start.group
        experiment = client.get_experiment_by_name(name)
        number = client.create_experiment(name) if experiment is None else experiment.experiment_id
        tags = {"mlflow.source.name": "clipzoo", "work_dir": start.group}
        self._id = client.create_run(number, run_name=start.name, tags=tags).info.run_id
        params = [Param(_key(name), str(value)[:_LONGEST_VALUE]) for name, value in start.config.items()]
        for first in range(0, len(params), _MOST_AT_ONCE):
            client.log_batch(self._id, params=params[first : first + _MOST_AT_ONCE])
        return self._id

    def send(self, values: Mapping[str, float], at: int) -> None:
        """See ``Tracker.send``."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self._client.log_batch(self._id, metrics=[Metric(_key(name), value, now, at) for name, value in values.items()])

    def send_final(self, values: Mapping[str, float], table: Sequence[Sequence[str | float]] = ()) -> None:
        """See ``Tracker.send_final``."""
        self.send(values, 0)
        if table:
            self._client.log_text(self._id, csv_text([COLUMNS, *table]), "results.csv")

    def send_files(self, paths: Sequence[Path]) -> None:
        """See ``Tracker.send_files``."""
        for path in paths:
            self._client.log_artifact(self._id, str(path))

    def close(self, ending: Ending) -> None:
        """See ``Tracker.close``."""
        self._client.set_terminated(self._id, status=_STATUS[ending])


def _key(name: str) -> str:
    return _NOT_IN_KEYS.sub("_", name)
