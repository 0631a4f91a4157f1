"""``tools/tune.py CONFIG --space …``: search for hyper-parameters on the val parts, then train and test the best trial."""

from __future__ import annotations

import argparse
from pathlib import Path

from clipzoo.cli import command_line
from clipzoo.commands import typed

DESCRIPTION = """Search for hyper-parameters with Optuna, which must be installed. A trial trains the folds of the config and is scored on
their val parts only: the mean of evaluation.select at the chosen epochs. Once five trials are finished, a trial whose mean after a fold
is worse than their median there is stopped (--no-pruning). At the end the best trial is trained and tested in WORK_DIR/best, like any
other config.

  {tune} clip/r18_bertzh_digits_5fold --trials 20 --space optimizer.lr=1e-5..1e-3:log \\
      optimizer.weight_decay=0..0.2 data.batch_size=16,32,64

Running the same command again continues; at most the running fold is lost, back to its last checkpoint. More --trials can be added until
the best trial has been tested; --only-trials leaves that for later."""


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = command_line.parser("tune", DESCRIPTION.format(tune=typed("tune")))
    command_line.add_config_arguments(parser)
    help_ = "KEY=low..high, KEY=low..high:log or KEY=a,b,c; or a .json or .py file of such keys"
    parser.add_argument("--space", nargs="+", required=True, metavar="KEY=RANGE", help=help_)
    parser.add_argument("--trials", type=int, default=20, metavar="N", help="number of trials, with those made earlier (default: 20)")
    parser.add_argument("--work-dir", type=command_line.path, help="folder for the search (default: work_dirs/tune_<config name>)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the search; the folds and runtime.seed stay the same")
    parser.add_argument("--no-pruning", action="store_true", help="train every trial to its end")
    parser.add_argument("--only-trials", action="store_true", help="do not train and test the best trial yet")
    command_line.run(tune, parser.parse_args(arguments))


def tune(arguments: argparse.Namespace) -> int:
    """Search, show the trials, train the best."""
    from clipzoo.cli.report import show_report
    from clipzoo.config import Config
    from clipzoo.engine.waiting import Interrupted
    from clipzoo.errors import ConfigError
    from clipzoo.grid.space import parse_space
    from clipzoo.grid.tuning import BEST, Tuner

    if arguments.trials < 1:
        raise ConfigError(f"--trials: {arguments.trials} is not 1 or more")
    config, options = arguments.config, arguments.cfg_options
    space = parse_space(arguments.space, config, options)
    folder = arguments.work_dir or Path("work_dirs") / f"tune_{Config.load(config, options).name}"
    settings = {"seed": arguments.seed, "prunes": not arguments.no_pruning, "say": command_line.say}
    tuner = Tuner(config, options, space, folder, **settings)
    try:
        trials = tuner.run(arguments.trials)
        command_line.show(tuner.text(trials))
        if arguments.only_trials:
            return 0
        best = tuner.best(trials)
        summary = best.train()
    except Interrupted as stop:
        command_line.say(f"stopped by signal {stop.signal}; the same command continues from there")
        return 128 + stop.signal
    command_line.show(f"\n{summary.tables()}\n\nresults: {folder / BEST}")
    show_report(Config.load(config, options), folder / BEST)
    best.call_hooks(summary)  # last, as trackers send what is in the work dir
    return 0
