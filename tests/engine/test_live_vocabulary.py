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


def test_other_rows_in_use_are_refused(make_run):
    run = make_run("run", True)
    loop.fit(run)
    content = torch.load(run.folder / checkpoint.LATEST, weights_only=True)
    content["live"]["rows"] = content["live"]["rows"][1:]
    checkpoint.write(run.folder / checkpoint.LATEST, content)
    with pytest.raises(checkpoint.CheckpointError, match="does not match this run .*rows of the token table"):
        checkpoint.resume(make_run("run", True))


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
