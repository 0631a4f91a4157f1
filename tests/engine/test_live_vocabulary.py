"""The token table of which only the rows in use are trained: the same numbers as the whole table."""

import copy

import pytest
import torch
from torch import nn

from clipzoo import optim
from clipzoo.engine import build, checkpoint, loop
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.engine.runner import Runner
from clipzoo.models.text_encoders.live_embedding import LiveEmbedding
from clipzoo.records.folds import Split
from clipzoo.runtime.log import make_log

TOWERS = {
    "clip": {"type": "CLIPText", "width": 16, "layers": 1, "heads": 2, "output_dim": 16},
    "bert": {"type": "BERT", "pretrained": False, "hidden_size": 16, "num_layers": 1, "num_heads": 2, "dropout": 0.0},
}
OPTIMIZERS = {
    "adamw": {"type": "AdamW", "lr": 1e-2, "weight_decay": 0.3},
    "sgd": {"type": "SGD", "lr": 0.1, "weight_decay": 0.02},
    "nesterov": {"type": "SGD", "lr": 0.1, "weight_decay": 0.02, "nesterov": True},
    "plain": {"type": "SGD", "lr": 0.1, "weight_decay": 0.02, "momentum": 0.0},
}
TABLES = {"clip": "text_encoder.token_embedding.weight", "bert": "text_encoder.bert.embeddings.word_embeddings.weight"}
VIT = {"type": "TimmBackbone", "name": "test_vit", "image_size": 32}


@pytest.fixture
def make_run(config_of, tmp_path, quiet):
    """A run on 12 cases, in fp32 or fp64."""

    def make(folder: str, live: bool, tower: str = "clip", *, double: bool = False, train: dict | None = None, **sections):
        train = {"epochs": 4, "live_vocabulary": live, **(train or {})}
        config = config_of(hooks=[], model={"image_encoder": VIT, "text_encoder": TOWERS[tower]}, train=train, **sections)
        data = build.dataset(config)
        ids = tuple(case.id for case in data.cases[:12])
        split = Split("fold_1", train=ids, val=(), test=ids[:2])
        run = Runner(config, data, split, tmp_path / folder, log=make_log(quiet, None), console=quiet).run
        run.folder.mkdir(exist_ok=True)
        if double:
            run.model.double()
            for state in run.optimizer.state.values():
                state.update({name: value.double() for name, value in state.items()})
            if run.averaged is not None:
                run.averaged.double()
            original = run.model.encode_image
            run.model.encode_image = lambda images, *rest: original(images.double(), *rest)
        return run

    return make


def whole(run) -> dict[str, torch.Tensor]:
    """The weights that a checkpoint holds."""
    return {name: value.clone() for name, value in checkpoint.model_content(run)["model"].items()}


QUICK = {("clip", "adamw"), ("bert", "nesterov")}
CASES = [(tower, optimizer) for tower in TOWERS for optimizer in OPTIMIZERS]


@pytest.mark.parametrize("tower, optimizer", [pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow) for case in CASES])
def test_the_whole_table_equals_that_of_training_it_whole(make_run, tower, optimizer):
    ends = []
    for live in (True, False):
        run = make_run(str(live), live, tower, double=True, optimizer=OPTIMIZERS[optimizer], train={"clip_grad": 0.05, "ema_decay": 0.8})
        start = whole(run)[TABLES[tower]]
        loop.fit(run)
        assert run.state.step >= 8
        assert isinstance(run.live, type(None)) is not live
        raw = {name: value.clone() for name, value in run.model.state_dict().items()}
        ends.append((whole(run), raw))
    for with_live, dense in zip(*ends, strict=True):
        assert with_live.keys() == dense.keys()
        for name, value in dense.items():
            torch.testing.assert_close(with_live[name], value, rtol=1e-12, atol=1e-12, msg=name)
    changed = (ends[0][0][TABLES[tower]] / start).nanmean(dim=1)
    assert (changed < 0.999).sum() > 1000, "weight decay changes the idle rows"


def test_steps_that_the_fp16_scaler_skips_do_not_decay(make_run):
    ends = []
    for live in (True, False):
        run = make_run(str(live), live, double=True, optimizer=OPTIMIZERS["adamw"])
        run.scaler = torch.amp.GradScaler("cpu", enabled=True, init_scale=8.0)
        steps = 0

        def overflow(gradient):
            nonlocal steps
            steps += 1
            return gradient * float("inf") if steps == 2 else gradient

        run.model.logit_scale.register_hook(overflow)
        loop.fit(run)
        assert run.state.skipped == 1 and run.scaler.get_scale() == 4.0
        ends.append(whole(run))
    for name, value in ends[1].items():
        torch.testing.assert_close(ends[0][name], value, rtol=1e-12, atol=1e-12, msg=name)


@pytest.mark.parametrize("tower", TOWERS)
def test_what_is_trained_is_equal_to_the_last_bit(make_run, tower):
    """In fp32 with clipping: rows of zeros change no digit of the norm."""
    runs = [make_run(str(live), live, tower, optimizer=OPTIMIZERS["adamw"], train={"clip_grad": 0.05}) for live in (True, False)]
    for run in runs:
        loop.fit(run)
    ends, used, table = [whole(run) for run in runs], runs[0].live.table.rows, TABLES[tower]
    assert torch.equal(ends[0][table][used], ends[1][table][used])
    torch.testing.assert_close(ends[0][table], ends[1][table], rtol=1e-6, atol=1e-9)
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0] if name != table)


@pytest.mark.parametrize("optimizer", ["adamw", "nesterov"])
def test_a_restart_in_the_middle_is_bitwise(make_run, optimizer, stopped_at):
    sections = {"optimizer": OPTIMIZERS[optimizer], "train": {"ema_decay": 0.8, "clip_grad": 0.05}}
    straight = make_run("straight", True, **sections)
    loop.fit(straight)
    for step in (1, 5):
        run = make_run("stopped", True, **sections)
        checkpoint.resume(run)
        with stopped_at(step):
            loop.fit(run)
    run = make_run("stopped", True, **sections)
    assert checkpoint.resume(run)
    loop.fit(run)
    files = [(one.folder / checkpoint.LATEST).read_bytes() for one in (straight, run)]
    assert files[0] == files[1]
    content = checkpoint.read(run.folder / checkpoint.LATEST)
    assert len(content["raw_model"][TABLES["clip"]]) == 49408, "the file has the whole table"
    moments = [value for state in content["optimizer"]["state"].values() for value in state.values() if torch.is_tensor(value)]
    assert max(len(value) for value in moments if value.ndim) < 49408, "and the moments of the rows in use"


@pytest.mark.parametrize("optimizer", ["adamw", pytest.param("nesterov", marks=pytest.mark.slow)])
def test_a_run_that_an_earlier_version_began_goes_on(make_run, optimizer, stopped_at, monkeypatch):
    """Its checkpoint has the moments of the whole table."""
    sections = {"optimizer": OPTIMIZERS[optimizer], "double": True, "train": {"ema_decay": 0.8, "clip_grad": 0.05}}
    with monkeypatch.context() as patch:
        patch.setattr(build, "live_table", lambda *_: None)
        dense = make_run("dense", True, **sections)
        loop.fit(dense)
        with stopped_at(5):
            loop.fit(make_run("begun", True, **sections))
    run = make_run("begun", True, **sections)
    assert dense.live is None and run.live is not None and checkpoint.resume(run)
    loop.fit(run)
    assert run.state.step == dense.state.step
    for ours, expected in ((run.model, dense.model), (run.averaged.module, dense.averaged.module)):
        for name, value in expected.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize("optimizer", ["adamw", pytest.param("sgd", marks=pytest.mark.slow)])
def test_other_captions_are_in_use_after_a_change_of_the_data(make_run, optimizer, stopped_at, monkeypatch):
    """As with --accept-changed-data: nothing is lost but the moments of rows that nothing trains any more."""
    sections = {"optimizer": OPTIMIZERS[optimizer], "train": {"ema_decay": 0.8}}
    with stopped_at(5):
        loop.fit(make_run("run", True, **sections))
    before = checkpoint.read(make_run("run", True, **sections).folder / checkpoint.LATEST)
    rows = before["live"]["rows"]
    other = torch.cat([rows[1:], torch.tensor([40_000])]).sort().values
    monkeypatch.setattr(build, "live_table", lambda net, tokens, kind: net.text_encoder.live_tokens(other))
    run = make_run("run", True, **sections)
    assert torch.equal(run.live.table.rows, other) and checkpoint.resume(run)
    table, average = TABLES["clip"], run.averaged.module.state_dict()[TABLES["clip"]]
    torch.testing.assert_close(run.model.state_dict()[table], before["raw_model"][table], rtol=0, atol=0)
    torch.testing.assert_close(average, before["model"][table], rtol=1e-6, atol=1e-8)
    key = "exp_avg" if optimizer == "adamw" else "momentum_buffer"
    parameters = [parameter for group in run.optimizer.param_groups for parameter in group["params"]]
    index = next(i for i, parameter in enumerate(parameters) if parameter is run.live.table.weight)
    now, then = run.optimizer.state[run.live.table.weight][key], before["optimizer"]["state"][index][key]
    assert torch.equal(now[other != 40_000], then[1:]), "rows that stay keep their moments"
    expected = 0.0 if optimizer == "adamw" else run.live.momentum.item() * before["raw_model"][table][40_000]
    torch.testing.assert_close(now[other == 40_000][0], torch.zeros(16) + expected, rtol=1e-5, atol=1e-9)
    assert (run.live.momentum != 0) == (optimizer == "sgd")


def test_sentences_with_other_tokens_are_read_as_before():
    torch.manual_seed(0)
    table = nn.Embedding(50, 4, padding_idx=0)
    live = LiveEmbedding(table, torch.tensor([0, 3, 7]))
    ids = torch.tensor([[3, 7, 0], [49, 3, 20]])
    assert torch.equal(live.eval()(ids), table(ids)), "tokens that are not in use too"
    with torch.no_grad():
        live.factor.fill_(0.5)
        live.weight.mul_(2)
    changed = table.weight.detach() * 0.5
    changed[[0, 3, 7]] = table.weight.detach()[[0, 3, 7]] * 2
    assert torch.equal(live(ids), changed[ids]) and torch.equal(live.state_dict()["weight"], changed)
    table.load_state_dict(live.state_dict())
    again = LiveEmbedding(nn.Embedding(50, 4), torch.tensor([0, 3, 7]))
    again.load_state_dict(table.state_dict())
    assert torch.equal(again.eval()(ids), changed[ids]) and again.factor == 1
    twin = copy.deepcopy(again)
    assert twin.origin is again.origin and twin.weight is not again.weight, "a copy shares what is never written"
    with pytest.raises(IndexError):
        again.train()(ids)
    ids = torch.tensor([[3, 7, 0]])
    live.train()(ids).sum().backward()
    assert live.weight.grad[0].eq(0).all() and live.weight.grad[1:].eq(1).all(), "padding has no gradient"
    with pytest.raises(RuntimeError, match="size mismatch for weight"):
        again.load_state_dict({"weight": torch.zeros(3, 4)})
    with pytest.raises(RuntimeError, match="Missing key"):
        again.load_state_dict({})


def test_it_is_left_alone_where_it_would_not_help(make_run, config_of):
    frozen = {**TOWERS["clip"], "freeze": "all"}
    tower = build.make_model(config_of(model={"image_encoder": VIT, "text_encoder": frozen}).model, 3).text_encoder
    assert tower.live_tokens(torch.tensor([1, 2])) is None, "a frozen table has no gradient anyway"
    tower.unfreeze(None)
    assert tower.live_tokens(torch.arange(30_000)) is None, "most rows are in use"
    assert tower.live_tokens(torch.tensor([[5, 2], [5, 7]])).rows.tolist() == [2, 5, 7]
    tower.unfreeze(0)
    tower.unfreeze(None)
    assert tower.token_embedding.weight.requires_grad and not tower.token_embedding.factor.requires_grad
    assert "25.2" not in tower.describe() and "trained, 0 frozen, 0.79 M of unused tokens" in tower.describe()
    assert make_run("timm", True, optimizer={"type": "timm", "opt": "lion"}).live is None


def test_an_optimizer_of_a_plugin_says_itself_what_happens_to_idle_rows():
    class Coupled(optim.AdamW):
        """Decay as part of the gradient."""

        def make(self, groups, fused):
            return torch.optim.Adam(groups, lr=self.lr, betas=self.betas)

    class Followed(Coupled):
        def idle_step(self, factor, momentum, lr, weight_decay):
            return factor, momentum

    class Renamed(optim.AdamW):
        def __init__(self, lr: float = 1e-3):
            super().__init__(lr=lr)

    follows = {kind.__name__: kind().follows_idle for kind in (Coupled, Followed, Renamed, optim.AdamW, optim.SGD)}
    assert follows == {"Coupled": False, "Followed": True, "Renamed": True, "AdamW": True, "SGD": True}


def test_a_plugins_optimizer_trains_the_whole_table(make_run, monkeypatch):
    monkeypatch.setattr(optim.AdamW, "follows_idle", False)
    assert make_run("run", True).live is None


@pytest.mark.slow
def test_it_is_compiled_in_one_piece():
    from torch._dynamo.testing import CompileCounter

    table = nn.Embedding(50, 4, padding_idx=0)
    live, counter = LiveEmbedding(table, torch.tensor([0, 3, 7])).train(), CompileCounter()
    compiled = torch.compile(live, backend=counter, fullgraph=True)
    ids = torch.tensor([[3, 7, 0]])
    assert torch.equal(compiled(ids), table(ids)) and torch.equal(compiled(ids), table(ids)) and counter.frame_count == 1


@pytest.mark.slow
def test_predictions_of_all_folds_are_identical(config_of, tmp_path, quiet):
    tables = []
    for live in (True, False):
        config = config_of(model={"image_encoder": VIT, "text_encoder": TOWERS["clip"]}, train={"epochs": 2, "live_vocabulary": live})
        CrossValidation(config, tmp_path / str(live), console=quiet).train()
        tables.append((tmp_path / str(live) / "oof_predictions.csv").read_bytes())
    assert tables[0] == tables[1]


def test_hooks_of_the_table_stay_with_it(make_run):
    """Hugging Face's gradient checkpointing puts one there, and a copy of the model for a moving average follows its handle."""
    run = make_run("run", True, "bert", train={"epochs": 1, "gradient_checkpointing": True, "ema_decay": 0.9})
    loop.fit(run)
    assert run.live is not None and run.live.table._forward_hooks and run.state.step > 0
