"""Runs in MLflow."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clipzoo.errors import first_line
from clipzoo.hooks.tracker import COLUMNS, Ending, Start, Tracker
from clipzoo.registries import HOOKS
from clipzoo.text import csv_text

if TYPE_CHECKING:
    from mlflow.entities import Param

_NOT_IN_KEYS = re.compile(r"[^/\w.\- :]")
_LONGEST_KEY = 250  # characters
_LONGEST_VALUE = 6000  # characters; MLflow refuses longer ones
_MOST_AT_ONCE = 100  # parameters
_REFUSED = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")
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

        self._client = client = MlflowClient(tracking_uri=self.tracking_uri)
        if not start.is_new:
            self._id = start.id
            client.update_run(self._id, status="RUNNING")
            self.note(self._id)
            self._send_config(start)  # the rest, if a start failed
            return self._id
        tags = {"mlflow.source.name": "clipzoo", "work_dir": start.group}
        number = self._experiment_id(self.experiment or start.group)
        self._id = client.create_run(number, run_name=start.name, tags=tags).info.run_id
        self.note(self._id)
        self._send_config(start)
        return self._id

    def _experiment_id(self, name: str) -> str:
        """The id of an experiment, which is made if there is none."""
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return found.experiment_id
        try:
            return self._client.create_experiment(name)
        except MlflowException:
            found = self._client.get_experiment_by_name(name)
            if found is None:
                raise
            return found.experiment_id  # another process, such as another fold's, has just made it

    def _send_config(self, start: Start) -> None:
        """Send the keys of the config that the run does not have yet; a key that MLflow refuses is a warning."""
        from mlflow.entities import Param
        from mlflow.exceptions import MlflowException

        known = {} if start.is_new else self._client.get_run(self._id).data.params
        values = zip(_keys(start.config), start.config.values(), strict=True)
        params = [Param(key, str(value)[:_LONGEST_VALUE]) for key, value in values if key not in known]
        for first in range(0, len(params), _MOST_AT_ONCE):
            portion = params[first : first + _MOST_AT_ONCE]
            try:
                self._client.log_batch(self._id, params=portion)
            except MlflowException as error:
                if error.error_code not in _REFUSED:
                    raise
                for param in portion:
                    self._send_param(param, start)

    def _send_param(self, param: Param, start: Start) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.log_param(self._id, param.key, param.value)
        except MlflowException as error:
            if error.error_code not in _REFUSED:
                raise
            start.log.warning(f"warning: MLflowHook: the config's {param.key} is refused and not sent ({first_line(error)})")

    def send(self, values: Mapping[str, float], at: int) -> None:
        """See ``Tracker.send``."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(key, value, now, at) for key, value in zip(_keys(values), values.values(), strict=True)]
        self._client.log_batch(self._id, metrics=metrics)

    def send_final(self, values: Mapping[str, float], table: Sequence[Sequence[str | float]] = ()) -> None:
        """See ``Tracker.send_final``. MLflow shows the value with the highest position, so they are sent after the curves."""
        self.send(values, self.next_place)
        if table:
            self._client.log_text(self._id, csv_text([COLUMNS, *table]), "results.csv")

    def send_files(self, paths: Sequence[Path]) -> None:
        """See ``Tracker.send_files``."""
        for path in paths:
            self._client.log_artifact(self._id, str(path))

    def close(self, ending: Ending) -> None:
        """See ``Tracker.close``."""
        self._client.set_terminated(self._id, status=_STATUS[ending])


def _keys(names: Iterable[str]) -> list[str]:
    """Keys that MLflow takes: without other characters, not too long, and each different from those before it."""
    keys: dict[str, None] = {}
    for name in names:
        usual = key = _NOT_IN_KEYS.sub("_", name)[:_LONGEST_KEY]
        number = 2
        while key in keys:
            key = f"{usual[: _LONGEST_KEY - 8]}_{number}"
            number += 1
        keys[key] = None
    return list(keys)
