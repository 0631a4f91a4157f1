"""Search for hyper-parameters: trials are scored on the val parts only, and the best is then trained and tested like any other config.

    WORK_DIR/tune.json      what must stay the same for the search to go on
    WORK_DIR/tune.db        Optuna's study: the trials, their values and states
    WORK_DIR/trials/001     one work dir for each trial, without results on test parts
    WORK_DIR/trials.csv     the trials as a table
    WORK_DIR/best           the chosen trial, trained and tested

The sampler is Optuna's (Akiba et al., 2019, https://arxiv.org/abs/1907.10902). It is seeded for each trial by the trial's number, so that a
search that was stopped makes the same trials as one that was not. Hopeless trials are stopped by the median rule (Golovin et al., 2017,
Google Vizier, section 3.2) over folds instead of epochs. Optuna's MedianPruner compares the best mean so far, by which one easy first fold
would shield a trial; here the mean of all its folds counts.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from clipzoo.config import Config, differences
from clipzoo.config.plugins import import_plugins
from clipzoo.config.settings import EvaluationSettings
from clipzoo.engine import build, work_dir
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.engine.epochs.inner import hooks_without, number_of
from clipzoo.errors import BuildError, CheckpointError, ConfigError, DataError, TrainingError, first_line, shortened
from clipzoo.files import write_text
from clipzoo.grid.space import Dimension, overrides
from clipzoo.records.json_records import read_record, write_record
from clipzoo.records.provenance import decisive
from clipzoo.records.tuning import SEARCH_FILE, Search, Tuned
from clipzoo.runtime.log import make_console
from clipzoo.text import csv_text
from clipzoo.text_tables import aligned, number

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

DATABASE, TRIALS, TABLE, BEST = "tune.db", "trials", "trials.csv", "best"
_NOT_KEPT = ("ResultsHook", "TensorBoardHook")  # pictures and records of a trial cost seconds, and nobody looks at them
_MOST_SHOWN = 10
_UNPRUNED = 5  # trials that must have been finished before others are compared with them
_BUSY = "another process is tuning here. Wait for it, or choose another folder with --work-dir"


@dataclass
class Tuner:
    """A search in one work dir, new or continued.

    Attributes:
        config: Config file or name, the base of all trials.
        options: Overrides for all trials.
        space: The dimensions, from ``parse_space``.
        folder: Work dir of the search.
        seed: Seed of the sampler.
        prunes: Whether a trial is stopped after a fold if the mean of its folds is worse than the median of the finished trials there,
            once five are finished.
        say: Receives progress lines.
        console: Console of the trainings; ``None`` for standard error.

    Raises:
        ConfigError: A fold has no val part, or its test part would choose the epoch.
        BuildError: Optuna is not installed.
    """

    config: str
    options: Sequence[str]
    space: Sequence[Dimension]
    folder: Path
    seed: int = 0
    prunes: bool = True
    say: Callable[[str], None] = print
    console: Console | None = None

    def __post_init__(self) -> None:
        try:
            import optuna
        except ImportError as error:
            raise BuildError("tune: requires the package optuna. Run pip install optuna") from error
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.base = Config.load(self.config, self.options)
        import_plugins(self.base.get("plugins", []))
        self.data = build.dataset(self.base, console=self.console or make_console())
        self.folds = build.folds(self.base, self.data)
        self.selector = build.metrics(EvaluationSettings.of(self.base), self.data)[1]
        check_validates(self.base, self.folds.splits)

    def run(self, num_trials: int) -> list[FrozenTrial]:
        """Make all trials that are missing, after an unfinished one is finished; return all of them.

        Raises:
            CheckpointError: The folder belongs to another search, or another process is tuning there.
            ConfigError: The best trial has been tested already, and more trials are asked for.
            loop.Interrupted: A signal ended a training; the same call goes on.
            BuildError: Every trial failed.
        """
        from optuna.trial import Trial, TrialState

        with self.opened():
            tested = Tuned.read(self.folder / BEST)
            if tested is not None and num_trials > tested.num_trials:
                raise ConfigError(
                    f"--trials: {self.folder / BEST} was already chosen among {tested.num_trials} trials and tested; a choice among more "
                    "would know the test values. Use another --work-dir"
                )
            trials = self.study.get_trials()
            for trial in trials:
                if trial.state == TrialState.RUNNING:  # a kill or a signal ended it
                    self.study.sampler = self.sampler(trial.number)
                    self.run_trial(Trial(self.study, trial._trial_id), num_trials)
            for index in range(len(trials), num_trials):
                self.study.sampler = self.sampler(index)
                self.run_trial(self.study.ask(), num_trials)
            found = self.study.get_trials()
            self.write_table(found)
        if not any(trial.state == TrialState.COMPLETE for trial in found):
            raise BuildError(f"tune: every trial failed. Trial {found[0].number + 1}: {found[0].user_attrs.get('error')}")
        return found

    @contextmanager
    def opened(self):
        """The folder of the search, locked; refused if it holds anything else."""
        path = self.folder / SEARCH_FILE
        wanted = Search(decisive(self.base.plain()), [str(dimension) for dimension in self.space], self.seed, self.prunes)
        if not path.exists() and self.folder.is_dir():
            foreign = sorted(p.name for p in self.folder.iterdir() if not p.name.startswith("."))
            if foreign:
                raise CheckpointError(
                    f"{self.folder}: not empty, and not made by tune (it holds {shortened(foreign, 3)}). Use another --work-dir"
                )
        with work_dir.locked(self.folder, _BUSY):
            if path.exists():
                stored = read_record(Search, path, "Use another --work-dir")
                changed = differences(asdict(stored), asdict(wanted))
                if changed:
                    raise CheckpointError(
                        f"{self.folder}: holds another search. Use another --work-dir, or revert: {shortened(changed, 4)}"
                    )
            else:
                write_record(path, asdict(wanted))
            yield

    @cached_property
    def study(self) -> Study:
        """Optuna's study, stored in ``tune.db``."""
        import optuna

        direction = "maximize" if self.selector.greater_is_better else "minimize"
        url = f"sqlite:///{(self.folder / DATABASE).resolve()}"
        return optuna.create_study(study_name="tune", storage=url, direction=direction, load_if_exists=True)

    def sampler(self, index: int):
        """The sampler of one trial, which depends on the earlier trials and on this seed only."""
        from optuna.samplers import TPESampler

        return TPESampler(seed=(self.seed * 1_000_003 + index) % 2**32)

    def config_of(self, parameters: dict[str, Any], **changes: object) -> Config:
        """The config with the values of a trial."""
        chosen = {dimension.key: parameters[dimension.key] for dimension in self.space}  # in the order of the user
        config = Config.load(self.config, [*self.options, *overrides(chosen)])
        return config.with_values(changes) if changes else config

    def run_trial(self, trial: Trial, num_trials: int) -> None:
        """Train the folds of a trial until all are done, or it is pruned, or fails."""
        from optuna.trial import TrialState

        parameters = {dimension.key: dimension.suggest(trial) for dimension in self.space}
        name, folder = f"trial {trial.number + 1}", self.folder / TRIALS / f"{trial.number + 1:03d}"
        self.say(f"{name} of {num_trials}: {' '.join(overrides(parameters))}")
        try:
            config = self.config_of(parameters, hooks=hooks_without(self.base, _NOT_KEPT))
            value, is_whole = self.score(trial, CrossValidation(config, folder, console=self.console))
        except (ConfigError, BuildError, TrainingError) as error:
            message = first_line(error)
            trial.set_user_attr("error", message)
            self.study.tell(trial, state=TrialState.FAIL)
            self.say(f"{name}: failed: {message}")
            return
        if is_whole:
            self.study.tell(trial, value)
        else:
            self.study.tell(trial, state=TrialState.PRUNED)
        self.say(f"{name}: {'' if is_whole else 'stopped early, '}val {self.selector.name} {value:.4f}, best {self.study.best_value:.4f}")

    def score(self, trial: Trial, validation: CrossValidation) -> tuple[float, bool]:
        """The mean of the val scores, and whether it is over all folds.

        Raises:
            DataError: The trial has other folds than the config: its score could not be compared.
        """
        if validation.folds.digest != self.folds.digest:
            raise DataError(
                f"trial {trial.number + 1}: its folds differ from those of the config. Remove from --space what changes the cases"
            )
        values = []
        reported = self.study.get_trials(deepcopy=False)[trial.number].intermediate_values
        with closing(validation.validate()) as results:
            for result in results:
                values.append(result.value)
                mean, step = statistics.fmean(values), len(values) - 1
                if step not in reported:
                    trial.report(mean, step)
                if len(values) < len(validation.folds.splits) and self.is_hopeless(mean, step):
                    return mean, False
        return mean, True

    def is_hopeless(self, mean: float, step: int) -> bool:
        """Whether the mean of the first folds is worse than the median of the finished trials over the same folds."""
        from optuna.trial import TrialState

        finished = [trial.intermediate_values[step] for trial in self.study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])]
        if not self.prunes or len(finished) < _UNPRUNED:
            return False
        median = statistics.median(finished)
        return mean < median if self.selector.greater_is_better else mean > median

    def best(self, trials: Sequence[FrozenTrial]) -> CrossValidation:
        """The cross-validation of the best trial in the folder ``best``, to be trained and tested as any other."""
        chosen = self.study.best_trial
        states = [trial.state.name for trial in trials]
        tested, scored = ({case for split in self.folds.splits for case in getattr(split, part)} for part in ("test", "val"))
        parameters = {dimension.key: chosen.params[dimension.key] for dimension in self.space}
        tuned = Tuned(
            trial=chosen.number + 1,
            num_trials=len(trials),
            num_pruned=states.count("PRUNED"),
            num_failed=states.count("FAIL"),
            metric=self.selector.name,
            value=chosen.value,
            parameters=parameters,
            num_shared=len(tested & scored),
        )
        return CrossValidation(self.config_of(parameters), self.folder / BEST, console=self.console, tuned=tuned)

    def rows(self, trials: Sequence[FrozenTrial]) -> tuple[list[str], list[list[str]]]:
        """Header and rows of the trials, best first, unfinished and failed ones last."""
        sign = -1 if self.selector.greater_is_better else 1
        order = ("COMPLETE", "PRUNED", "FAIL")

        def rank(trial: FrozenTrial) -> tuple[int, float, int]:
            state = order.index(trial.state.name) if trial.state.name in order else len(order)
            return state, sign * (trial.value if trial.value is not None else 0.0), trial.number

        words = {"COMPLETE": "done", "PRUNED": "stopped early", "FAIL": "failed"}
        header = ["trial", "state", "folds", f"val {self.selector.name}", *(dimension.key for dimension in self.space)]
        rows = []
        for trial in sorted(trials, key=rank):
            means = [trial.intermediate_values[step] for step in sorted(trial.intermediate_values)]
            values = [_shown(trial.params.get(dimension.key)) for dimension in self.space]
            state = words.get(trial.state.name, "unfinished")
            rows.append([str(trial.number + 1), state, str(len(means)), number(means[-1] if means else None), *values])
        return header, rows

    def write_table(self, trials: Sequence[FrozenTrial]) -> None:
        """Write ``trials.csv``."""
        header, rows = self.rows(trials)
        write_text(self.folder / TABLE, csv_text([header, *rows]))

    def text(self, trials: Sequence[FrozenTrial]) -> str:
        """The best trials, and what their values mean."""
        header, rows = self.rows(trials)
        more = f"\n… and {len(rows) - _MOST_SHOWN} more in {self.folder / TABLE}" if len(rows) > _MOST_SHOWN else ""
        note = f"note: the val value of the first row is the best of {len(rows)}, and therefore optimistic; no test part was scored"
        return f"{aligned(header, rows[:_MOST_SHOWN])}{more}\n\n{note}"


def check_validates(config: Config, splits: Sequence) -> None:
    """Refuse folds whose val part cannot choose a trial.

    Raises:
        ConfigError: A fold has no val part, or the test part would choose the epoch, or the folds are repeated.
    """
    parts = {split.name: build.watched_part(config, split) for split in splits}
    if "test" in parts.values():
        raise ConfigError("splits.select_on_test: must be False for tune, which never scores a test part during the search")
    if number_of(config):
        raise ConfigError("splits.inner_folds: must be 0 for tune, which chooses by val parts. Train WORK_DIR/best/config.py with it")
    if EvaluationSettings.of(config).wise_ft:
        raise ConfigError(
            "evaluation.wise_ft: must be False for tune, which ranks the trained weights. Train WORK_DIR/best/config.py with it"
        )
    without = [name for name, part in parts.items() if part is None]
    if without:
        raise ConfigError(f"splits.val_fraction: {shortened(without, 3)} has no val part to choose a trial on. Set it above 0, such as 0.2")
    if config.splits.get("num_repeats", 1) > 1:
        raise ConfigError("splits.num_repeats: must be 1 for tune. Train WORK_DIR/best/config.py with repeats afterwards")


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
