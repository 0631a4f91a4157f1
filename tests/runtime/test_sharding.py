"""Two processes that share the towers' weights train as two that do not, and as one; what they save loads anywhere.

This file is also the program that the processes run.
"""

import importlib
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from processes import in_processes, launch
from tiny import tiny_config
from torch import nn

from clipzoo.config import Config
from clipzoo.engine import build, checkpoint
from clipzoo.engine.loop import Interrupted
from clipzoo.engine.runner import Runner
from clipzoo.errors import BuildError, CheckpointError, ConfigError
from clipzoo.hooks import Hook
from clipzoo.models.tower import Tower
from clipzoo.records.folds import Split
from clipzoo.runtime import distributed, sharding
from clipzoo.runtime.log import make_console, make_log

WORLD, STEPS = 2, 3
# Without batch norm and dropout, a batch cut into pieces has the same features. The text tower of the second variant is frozen.
TOWERS = {
    "image_encoder": {"type": "TimmBackbone", "name": "test_vit", "image_size": 32},
    "text_encoder": {"type": "CLIPText", "width": 16, "layers": 5, "heads": 2, "output_dim": 16, "context_length": 48},
}
BERT = {"type": "BERT", "pretrained": False, "hidden_size": 16, "num_layers": 4, "num_heads": 2, "dropout": 0.0}
VARIANTS = {
    "plain": {"model": TOWERS},
    "frozen": {"model": {**TOWERS, "text_encoder": {**BERT, "freeze": "all"}, "loss": {"type": "SigmoidContrastiveLoss"}}},
    "everything": {
        "model": {**TOWERS, "text_encoder": BERT, "loss": {"type": "MultiPositiveContrastiveLoss", "local_loss": True}},
        "train": {"accumulation": 2, "grad_cache": True, "gradient_checkpointing": True, "ema_decay": 0.9, "clip_grad": 0.5},
    },
}
TABLE = "text_encoder.bert.embeddings.word_embeddings.weight"
QUICK = [("everything", "fsdp")]
SLOW = [("plain", "ddp"), ("plain", "fsdp"), ("frozen", "ddp"), ("frozen", "fsdp"), ("everything", "ddp")]


def make_runner(images: Path, folder: Path, variant: str, strategy: str, hooks: tuple = ()) -> Runner:
    """A run on 32 cases, 8 in each step of all processes together; 7 cases are scored, in more batches by one process than by the other."""
    sections = {**VARIANTS[variant], "train": {"steps": STEPS, "clip_grad": 1.0, **VARIANTS[variant].get("train", {})}, "hooks": []}
    data = {"batch_size": 8 // distributed.world_size() // sections["train"].get("accumulation", 1), "augmentation": "none"}
    data["eval_batch_size"] = 3
    config = tiny_config(images, **sections, data=data, runtime={"device": "cpu", "threads": 1, "strategy": strategy})
    config["model"]["embed_dim"] = 16
    config["evaluation"] = {"every_steps": 2}
    config["optimizer"] = {"type": "AdamW", "lr": 1e-3, "eps": 1e-5}  # rounding of gradients near zero is no step of full length then
    loaded = Config.from_dict(config, "tiny")
    dataset = build.dataset(loaded)
    ids = [case.id for case in dataset.cases]
    split = Split("fold_1", train=tuple(ids[:32]), val=tuple(ids[29:]), test=tuple(ids[3:10]))
    console = make_console(quiet=True)
    runner = Runner(
        loaded, dataset, split, folder / f"{variant}-{strategy}-{distributed.world_size()}", log=make_log(console, None), console=console
    )
    runner.run.hooks = list(hooks)
    return runner


class EndAfter(Hook):
    """Ctrl-C after a step."""

    def __init__(self, step: int):
        self.step = step

    def after_step(self, run):
        if run.state.step == self.step:
            run.interrupt.signal = 2


def train(images: Path, folder: Path, variant: str, strategy: str) -> None:
    """Train, score the test part, and write its probabilities beside the checkpoints."""
    runner = make_runner(images, folder, variant, strategy)
    runner.fit()
    if strategy == "fsdp":
        check_parts(runner)
    evaluation, _ = runner.test()
    if runner.run.is_main:
        torch.save(torch.from_numpy(evaluation.table.probabilities), runner.run.folder / "probabilities.pt")


def check_parts(runner: Runner) -> None:
    """Between steps each process holds about half of the towers, and half of the optimizer's moments."""
    for net in {runner.run.model, runner.run.scored}:
        for tower in (net.image_encoder, net.text_encoder):
            assert all(sharding.is_sharded(p) for p in tower.parameters())
            share = sum(p.numel() for p in sharding.local(tower.parameters())) / sum(p.numel() for p in tower.parameters())
            assert 0.4 < share < 0.6, share
    moments = [values["exp_avg"] for values in runner.run.optimizer.state.values()]
    assert sum(map(sharding.is_sharded, moments)) == sum(
        p.requires_grad for t in runner.run.model.modules() if isinstance(t, Tower) for p in t.parameters()
    )


def run_slow(images: Path, folder: Path, rank: int) -> None:
    """One of two processes: the other variants and strategies."""
    for variant, strategy in SLOW:
        train(images, folder, variant, strategy)


def run_quick(images: Path, folder: Path, rank: int) -> None:
    """One of two processes: everything at once, in one piece, and stopped and continued; and what needs two processes besides."""
    train(images, folder, *QUICK[0])
    stopped = folder / "stopped"
    try:
        make_runner(images, stopped, "everything", "fsdp", [EndAfter(2)]).fit()
        raise AssertionError("not stopped")
    except Interrupted:
        pass
    distributed.barrier()
    assert checkpoint.read(stopped / "everything-fsdp-2" / checkpoint.LATEST)["state"]["step"] == 2
    train(images, stopped, "everything", "fsdp")
    check_clipping()
    check_refusals(images, folder)


def check_clipping() -> None:
    """The norm over parts and wholes is torch's over the whole gradient."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"tower": SmallTower(), "scale": nn.Linear(3, 1)})
    plain = [torch.randn_like(parameter) for parameter in model.parameters()]
    expected = torch.linalg.vector_norm(torch.cat([g.flatten() for g in plain]))
    sharding.shard(model, torch.device("cpu"))
    parameters = list(model.parameters())
    for largest in (1e3, 0.1):
        for parameter, gradient in zip(parameters, plain, strict=True):
            parameter.grad = sharding._parted(gradient.clone(), parameter)
        torch.testing.assert_close(sharding.clip_gradients(parameters, largest), expected)
        scale = min(1.0, largest / expected.item())
        found = sharding._whole({i: parameter.grad for i, parameter in enumerate(parameters)})
        if distributed.is_main():
            for i, gradient in enumerate(plain):
                torch.testing.assert_close(found[i], gradient * scale, rtol=1e-4, atol=0)


class SmallTower(Tower):
    """Two numbered blocks, and a bias that two processes cannot halve."""

    name = "small"

    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(*[nn.Sequential(nn.Linear(3, 3), nn.GELU()) for _ in range(2)])
        self.bias = nn.Parameter(torch.zeros(1))


def check_refusals(images: Path, folder: Path) -> None:
    with pytest.raises(BuildError, match="shards towers, but Linear has no towers. Use 'ddp'"):
        sharding.shard(nn.Linear(2, 2), torch.device("cpu"))
    with pytest.raises(ConfigError, match="'fsdp' does not support fp16"):
        build.parallel(nn.Linear(2, 2), torch.device("cpu"), "fsdp", autocast=torch.float16)
    with pytest.raises(CheckpointError, match="belong to another model"):
        runner = make_runner(images, folder / "new", "plain", "fsdp")
        checkpoint.load_weights(runner.run.model, {"logit_scale": torch.tensor(0.0)}, "there")


@pytest.fixture(scope="module")
def trained(class_folders, tmp_path_factory):
    """A folder of checkpoints: of one process, of two that hold everything, of two that share."""
    folder = tmp_path_factory.mktemp("sharding")
    launch(__file__, class_folders, folder, "quick")
    train(class_folders, folder, "everything", "ddp")
    return folder


@pytest.fixture(scope="module")
def trained_slowly(class_folders, tmp_path_factory):
    """The same for the other variants and strategies."""
    folder = tmp_path_factory.mktemp("sharding")
    launch(__file__, class_folders, folder, "slow")
    for variant in VARIANTS:
        train(class_folders, folder, variant, "ddp")
    return folder


@pytest.mark.slow
def test_two_processes_that_share_everything_train_as_one(trained):
    assert_trained_as_one(trained, *QUICK[0])


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "strategy"), SLOW)
def test_two_processes_train_as_one(trained_slowly, variant, strategy):
    assert_trained_as_one(trained_slowly, variant, strategy)


def assert_trained_as_one(trained: Path, variant: str, strategy: str) -> None:
    one, two = (checkpoint.read(trained / name / checkpoint.LATEST) for name in (f"{variant}-ddp-1", f"{variant}-{strategy}-2"))
    keys = ["model", "raw_model"] if variant == "everything" else ["model"]
    assert two["state"]["step"] == STEPS and ("raw_model" in two) == (variant == "everything")
    for key in keys:
        assert one[key].keys() == two[key].keys()
        for name, value in one[key].items():
            torch.testing.assert_close(two[key][name], value, rtol=1e-5, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")
    expected, found = (torch.load(trained / name / "probabilities.pt") for name in (f"{variant}-ddp-1", f"{variant}-{strategy}-2"))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_optimizer_is_saved_whole(trained):
    norms = []
    for name in ("everything-fsdp-2", "everything-ddp-1"):
        content = checkpoint.read(trained / name / checkpoint.LATEST)
        state, live = content["optimizer"]["state"], content.get("live")
        assert (live is None) == ("fsdp" in name), "with FSDP the whole token table is trained"
        whole = {} if live is None else {len(live["rows"]): len(content["raw_model"][TABLE])}  # the moments of the other rows are 0
        assert {int(values["step"]) for values in state.values()} == {STEPS}
        shapes = [tuple(values["exp_avg"].shape) for values in state.values()]
        shapes = [(whole.get(shape[0], shape[0]), *shape[1:]) if len(shape) == 2 else shape for shape in shapes]
        norms.append(sorted(zip(shapes, (values["exp_avg"].norm().item() for values in state.values()), strict=True)))
    assert [shape for shape, _ in norms[0]] == [shape for shape, _ in norms[1]]
    torch.testing.assert_close(*(torch.tensor([norm for _, norm in found]) for found in norms), rtol=1e-3, atol=1e-6)


@pytest.mark.slow
def test_a_run_that_shares_goes_on_bit_for_bit(trained):
    whole, resumed = (checkpoint.read(folder / "everything-fsdp-2" / checkpoint.LATEST) for folder in (trained, trained / "stopped"))
    for key in ("model", "raw_model"):
        for name, value in whole[key].items():
            assert torch.equal(resumed[key][name], value), name
    for index, values in whole["optimizer"]["state"].items():
        assert all(torch.equal(resumed["optimizer"]["state"][index][name], value) for name, value in values.items())


@pytest.mark.slow
def test_one_process_loads_what_two_that_share_have_saved(trained, class_folders):
    runner = make_runner(class_folders, trained / "loading", "everything", "fsdp")
    assert runner.run.parallel is runner.run.model and not any(map(sharding.is_sharded, runner.run.model.parameters()))
    content = checkpoint.read(trained / "everything-fsdp-2" / checkpoint.LATEST)
    checkpoint.load_weights(runner.run.model, content["raw_model"], "there")
    for name, value in sharding.model_state(runner.run.model).items():
        assert torch.equal(value, content["raw_model"][name])


@pytest.mark.parametrize(
    ("name", "expected"),
    [("test_vit", ["Block"] * 6), ("test_resnet", ["BasicBlock", "BasicBlock", "Bottleneck", "BasicBlock"])],
)
def test_blocks_of_timm_towers(name, expected):
    import timm

    assert [type(block).__name__ for block in sharding.blocks(timm.create_model(name, num_classes=0))] == expected


def test_large_stages_are_divided_into_their_blocks():
    import timm

    with torch.device("meta"):
        net = timm.create_model("convnext_base", num_classes=0)
    found = [type(block).__name__ for block in sharding.blocks(net)]
    assert found == ["ConvNeXtStage"] * 2 + ["ConvNeXtBlock"] * 30
    sizes = [sharding._size(block) for block in sharding.blocks(net)]
    assert max(sizes) < 0.25 * sharding._size(net) and sum(sizes) > 0.95 * sharding._size(net)


if __name__ == "__main__":
    where = Path(sys.argv[2])
    make_runner(Path(sys.argv[1]), where / "first", "everything", "ddp")  # what is imported here, the processes need not
    for module in ("sklearn.metrics", "torch.distributed.fsdp", "torch.distributed.tensor"):
        importlib.import_module(module)
    in_processes(WORLD, partial(run_quick if sys.argv[3] == "quick" else run_slow, Path(sys.argv[1]), where), where)


@pytest.mark.parametrize("count", [1, 0])
def test_clipping_of_the_token_table_alone_and_of_nothing(count):
    """The only parameter with a gradient at a stage of train.unfreeze; or none has one."""
    table = nn.Parameter(torch.zeros(3, 2))
    table.grad = torch.full((3, 2), 2.0) if count else None
    norm = sharding.clip_gradients([table, nn.Parameter(torch.zeros(2))], 1.0, table=table)
    assert norm == pytest.approx(24**0.5 * count) and (not count or table.grad.norm() == pytest.approx(1.0))
