"""What the tests of the engine share."""

import pytest


@pytest.fixture
def make_runner(config_of, tmp_path, quiet):
    """``make_runner(folder, num_train=24, model={...})``: a runner without hooks; the other cases are its val part."""
    from clipzoo.engine import build
    from clipzoo.engine.runner import Runner
    from clipzoo.records.folds import Split
    from clipzoo.runtime.log import make_log

    def make(folder: str = "run", *, num_train: int = 24, **sections) -> Runner:
        config = config_of(hooks=[], **sections)
        data = build.dataset(config)
        ids = tuple(case.id for case in data.cases)
        split = Split("fold_1", train=ids[:num_train], val=ids[num_train:], test=ids[:6])
        return Runner(config, data, split, tmp_path / folder, log=make_log(quiet, None), console=quiet)

    return make
