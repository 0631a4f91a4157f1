"""What the hooks of experiment trackers share: what is sent, when, and that nothing is sent twice or ends a run."""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from logging import Logger
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal
from uuid import uuid4

from clipzoo.engine.waiting import Interrupted
from clipzoo.engine.work_dir import read_experiment
from clipzoo.errors import BuildError, CheckpointError, first_line
from clipzoo.hooks.base import Hook
from clipzoo.hooks.flat_config import Flat, flat
from clipzoo.hooks.row_file import numbers_of_epoch, numbers_of_history, place
from clipzoo.records.json_records import read_record, write_record
from clipzoo.records.results import FoldResult, Summary
from clipzoo.records.tuning import SEARCH_FILE

if TYPE_CHECKING:
    from clipzoo.engine.evaluation import Evaluation
    from clipzoo.engine.state import Run

FOLDER = "tracking"
SUMMARY = "summary"
COLUMNS = ("metric", "pooled", "low", "high", "mean", "sd")
_REPORT = ("report.html", "report.json")

Ending = Literal["finished", "failed", "interrupted"]


@dataclass(frozen=True)
class Start:
    """How a run of a tracker begins.

    Attributes:
        id: Id of the run to continue; of a new one, an id that it may have.
        is_new: Whether the tracker does not know the run yet.
        name: ``'fold_1'`` …, or ``'summary'``.
        group: Name of the work dir, which joins the runs of a cross-validation; see ``group_of``.
        folder: The work dir.
        config: The config, with dotted keys.
        log: Logger for messages.
    """

    id: str
    is_new: bool
    name: str
    group: str
    folder: Path
    config: Flat
    log: Logger


@dataclass
class _Sent:
    """Content of ``tracking/<hook>.json``: what the tracker has, so that a restart sends the rest.

    Attributes:
        id: Id of the tracker's run.
        places: Last position on the horizontal axis, by kind of numbers.
        final: Digest of the predictions whose results were sent; empty before.
    """

    id: str
    places: dict[str, int] = field(default_factory=dict)
    final: str = ""


class Tracker(Hook):
    """Sends a run to an experiment tracker. Subclasses say how; they must not keep anything outside of themselves.

    Every fold is a run of the tracker, and the cross-validation is another one, all in one group with the name of the work dir. Sent are
    the config, the numbers that ``TensorBoardHook`` writes, under the same names, the test metrics, the table of the summary with its
    intervals, and the pictures in ``results/``. Names of cases and groups are not sent.

    An error of a tracker is a warning in the log; its run is closed as failed if that is possible, and this hook sends nothing more. What
    the tracker lacks of an unfinished fold is sent when its training goes on. Of a finished fold, it is sent from the fold's files when all
    folds are done, and at every later start of ``train``.

    Args:
        report: Whether ``report.html`` and ``report.json`` are sent too, which show images and names of cases.

    Raises:
        BuildError: The tracker's package is not installed.
    """

    is_tracker = True
    package: ClassVar[str]

    def __init__(self, report: bool = False):
        if importlib.util.find_spec(self.package) is None:
            raise BuildError(f"hooks: {type(self).__name__} requires the package {self.package}. Run pip install {self.package}")
        self.report = report
        self._sent: _Sent | None = None  # of the open run; None while there is none
        self._record = Path()
        self._log: Logger | None = None
        self._is_open = False  # whether the tracker has a run that must be closed
        self._has_failed = False

    def is_off(self) -> bool:
        """Whether the user has switched the tracker off, so that nothing is sent, noted or logged."""
        return False

    def open(self, start: Start) -> str:
        """Begin or continue a run, and return its id."""
        raise NotImplementedError

    def send(self, values: Mapping[str, float], at: int) -> None:
        """Send numbers at a position of the horizontal axis: an epoch, or a step."""
        raise NotImplementedError

    def send_final(self, values: Mapping[str, float], table: Sequence[Sequence[str | float]] = ()) -> None:
        """Send the numbers that the run ends with, and, of a cross-validation, the rows of the table with the columns ``COLUMNS``."""
        raise NotImplementedError

    def send_files(self, paths: Sequence[Path]) -> None:
        """Send files, at least one."""
        raise NotImplementedError

    def close(self, ending: Ending) -> None:
        """End the run; an interrupted one will be continued."""
        raise NotImplementedError

    def note(self, id: str) -> None:
        """Note the id of the run that the tracker has just made or continued. ``open`` may call it, if it can still fail after that."""
        if self._sent is not None:
            self._sent.id, self._is_open = id, True
            self._write()

    @property
    def next_place(self) -> int:
        """The position after the last one that was sent, also before a restart; 0 if there is none."""
        places = {} if self._sent is None else self._sent.places
        return 1 + max(places.values()) if places else 0

    def before_fit(self, run: Run) -> None:
        """Begin or continue the run of the fold."""
        if run.is_main:
            self._start(run.folder, run.split.name, run.folder.parent, run.config, run.log)

    def after_eval(self, run: Run) -> None:
        """Send the metrics of the evaluation."""
        self._send_new(str(run.watched), {f"{run.watched}/{name}": value for name, value in run.epoch_metrics.items()}, place(run))

    def after_epoch(self, run: Run) -> None:
        """Send losses, learning rate and temperature."""
        if self._sent is not None:
            self._send_new("train", numbers_of_epoch(run), place(run))

    def after_fit(self, run: Run, error: BaseException | None) -> None:
        """End the run if training did not; otherwise the test part follows."""
        if error is not None:
            stopped = isinstance(error, Interrupted) or not isinstance(error, Exception)
            self._end("interrupted" if stopped else "failed")
            self._sent = None

    def after_test(self, run: Run, evaluation: Evaluation, result: FoldResult) -> None:
        """Send the test metrics and the pictures, and end the run."""
        self._finish_fold(run.folder, result)

    def after_cross_validation(self, summary: Summary, folder: Path, log: Logger) -> None:
        """Send what is missing of the folds, and then the table with intervals, the pictures and, if wished, the report, as a run."""
        config = read_experiment(folder).config
        for fold in summary.folds:
            self._send_finished(folder / fold["fold"], config, log)
        rows = summary_rows(summary)
        values = {f"{column}/{row[0]}": row[k] for row in rows for k, column in enumerate(COLUMNS[1:], start=1)}
        files = pictures_in(folder) + [folder / name for name in _REPORT if self.report and (folder / name).is_file()]
        self._start(folder, SUMMARY, folder, config, log, final=summary.predictions_digest)
        self._finish(values, rows, files, summary.predictions_digest)

    def _send_finished(self, fold: Path, config: Mapping, log: Logger) -> None:
        """Send what the tracker lacks of a finished fold, from its files: not the temperature, and no evaluations between epochs."""
        result = FoldResult.read(fold)
        self._start(fold, fold.name, fold.parent, config, log, final=result.predictions_digest)
        if self._sent is not None:
            for kind, values, at in numbers_of_history(fold, config.get("evaluation", {}).get("every_steps")):
                self._send_new(kind, values, at)
            self._finish_fold(fold, result)

    def _finish_fold(self, fold: Path, result: FoldResult) -> None:
        values = {f"test/{name}": value for name, value in result.metrics.items()}
        self._finish({**values, "epoch": result.epoch}, (), pictures_in(fold), result.predictions_digest)

    def _start(self, place_: Path, name: str, work_dir: Path, config: Mapping, log: Logger, final: str = "") -> None:
        """Open the run of a fold or a cross-validation, unless its results (``final``, or any) were sent."""
        self._log, self._record = log, place_ / FOLDER / f"{type(self).__name__}.json"
        if self._has_failed:
            return
        sent = self._read()
        if sent is not None and sent.final and final in ("", sent.final):
            return
        known = sent or _Sent(uuid4().hex[:12])
        start = Start(known.id, sent is None, name, group_of(work_dir), work_dir, flat(config), log)
        self._sent = known
        if self._try("start of the run", self.is_off):
            self._sent = None
        found = self._try("start of the run", self.open, start)
        if found is not None:
            self._try("note of the run", self.note, found)

    def _send_new(self, kind: str, values: Mapping[str, float], at: int) -> None:
        """Send numbers, unless those of this position were sent before a restart."""
        if self._sent is not None and at > self._sent.places.get(kind, 0):
            self._try("numbers", self.send, defined(values), at)
            if self._sent is not None:
                self._sent.places[kind] = at
                self._try("note of the run", self._write)

    def _finish(self, values: Mapping[str, float], rows: Sequence[Sequence], files: Sequence[Path], digest: str) -> None:
        self._try("results", self.send_final, defined(values), rows)
        if files:
            self._try("files", self.send_files, files)
        self._end("finished")
        if self._sent is not None:
            self._sent.final = digest
            self._try("note of the run", self._write)
        self._sent = None

    def _end(self, ending: Ending) -> None:
        self._is_open = False
        self._try("end of the run", self.close, ending)

    def _try(self, what: str, call: Callable, *arguments: object) -> object:
        """Call a function of the tracker, if there is an open run; after an error there is none."""
        if self._sent is None:
            return None
        try:
            return call(*arguments)
        except Exception as error:  # whatever a tracker or its server does, the training goes on
            self._sent, self._has_failed = None, True
            self._log.warning(f"warning: {type(self).__name__}: {what} failed ({first_line(error)}). Nothing more is sent in this run")
            if self._is_open:
                self._is_open = False
                with suppress(Exception):  # the warning has been given
                    self.close("failed")
            return None

    def _read(self) -> _Sent | None:
        if not self._record.exists():
            return None
        try:
            return read_record(_Sent, self._record, "")
        except CheckpointError as error:
            self._log.warning(f"warning: {type(self).__name__}: {error} A new run is begun")
            return None

    def _write(self) -> None:
        write_record(self._record, asdict(self._sent))


def group_of(work_dir: Path) -> str:
    """The name of a work dir; with that of the folder around it for a repeat, the best trial of a search, or a job of a grid.

    >>> group_of(Path('work_dirs/hips')), group_of(Path('work_dirs/hips/repeat_2'))
    ('hips', 'hips/repeat_2')
    """
    work_dir = work_dir.absolute()
    outer = work_dir.parent
    is_repeat = re.fullmatch(r"repeat_\d+", work_dir.name) is not None
    is_inside = is_repeat or (outer / SEARCH_FILE).is_file() or (outer / f"{work_dir.name}.log").is_file()  # the log of a job
    return f"{group_of(outer) if is_repeat else outer.name}/{work_dir.name}" if is_inside else work_dir.name


def defined(values: Mapping[str, float]) -> dict[str, float]:
    """The values that are numbers: trackers draw no NaN."""
    return {name: float(value) for name, value in values.items() if value is not None and math.isfinite(value)}


def summary_rows(summary: Summary) -> list[tuple[str, float, float, float, float, float]]:
    """One row per metric with the columns ``COLUMNS``; NaN where a value or an interval is undefined."""
    rows = []
    for name, value in summary.pooled.items():
        interval = summary.intervals.get(name, {})
        limits = (interval.get(side, math.nan) for side in ("low", "high"))
        rows.append((name, value, *limits, summary.mean.get(name, math.nan), summary.sd.get(name, math.nan)))
    return rows


def pictures_in(folder: Path) -> list[Path]:
    """The pictures that ``ResultsHook`` and the summary have written."""
    return sorted((folder / "results").glob("*.png"))
