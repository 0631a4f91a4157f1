"""What a training does not load, and that it is there when somebody uses it after all."""

import copy
import json
import pickle
import subprocess
import sys

import pytest
from tiny import tiny_config

from clipzoo.config import Config

UNUSED = ("torch._dynamo", "torch._inductor", "open_clip", "pandas", "wandb", "torch.distributed.fsdp.fully_shard", "tensorflow", "IPython")


def run(code: str, *arguments: str) -> dict:
    """What the last line of the code's output says."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow  # a process that imports everything
def test_a_training_loads_no_compiler_and_no_tracker(class_folders, tmp_path):
    """With a BERT from transformers, both default optimizers, the default hooks, and a checkpoint."""
    config = tmp_path / "tiny.py"
    bert = {"type": "BERT", "pretrained": False, "hidden_size": 16, "num_layers": 1, "num_heads": 2}
    config.write_text(
        Config.from_dict(tiny_config(class_folders, model={"text_encoder": bert}, train={"epochs": 1})).dump(), encoding="utf-8"
    )
    code = f"""
import json, sys
from clipzoo.engine import loop
from clipzoo.cli import train
loaded = {{}}
step = loop.step
def first(run, group):
    step(run, group)
    run.optimizer.state_dict()
    loaded.update(dict.fromkeys(name for name in {UNUSED} if name in sys.modules))
loop.step = first
try:
    train.main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
print(json.dumps(sorted(loaded)))
"""
    assert run(code, str(config), "--work-dir", str(tmp_path / "run"), "--fold", "1") == []


@pytest.mark.slow
def test_what_needs_the_compiler_finds_it():
    """Functions that were imported from stand-ins, ``torch.compile`` itself, and decorators."""
    code = """
import json, sys, torch
from clipzoo.lean_imports import lean
with lean():
    import timm, torchvision.transforms.v2
    from transformers import BertConfig, BertModel
    import torchvision.ops.roi_align
    assert "torch._dynamo" not in sys.modules or type(sys.modules["torch._dynamo"]).__name__ == "_StandIn"
found = ["torch._dynamo" in sys.modules, any(type(finder).__name__ == "_Finder" for finder in sys.meta_path)]
boxes = torch.tensor([[0.0, 0, 0, 4, 4]])
torchvision.ops.roi_align(torch.rand(1, 3, 8, 8), boxes, 2)
assert torchvision.ops.roi_align.__module__
from torchvision.ops.roi_align import is_compile_supported
found.append(is_compile_supported("cpu"))
net = torch.nn.Linear(3, 3)
x = torch.rand(2, 3)
found.append(torch.equal(torch.compile(net, backend="eager")(x), net(x)))
with lean():
    torch._dynamo.config.cache_size_limit = 77
found.append(torch._dynamo.config.cache_size_limit == 77)  # a setting is one of the compiler
from torchvision import tv_tensors
found.append(tv_tensors.wrap(x, like=tv_tensors.Image(x)).shape == x.shape)  # decorated with torch.compiler.disable
found.append(type(sys.modules["torch._dynamo"]).__name__)
with lean():
    import torch._dynamo
found.append(hasattr(torch._dynamo, "optimize"))
print(json.dumps(found))
"""
    assert run(code) == [False, False, True, True, True, True, "module", True]


@pytest.mark.parametrize("kind", ["AdamW", "SGD"])
def test_optimizers_without_the_compiler_are_torchs(kind):
    import torch

    from clipzoo.optim.optimizers import without_compiler

    ours, ends = without_compiler(getattr(torch.optim, kind)), []
    assert issubclass(ours, getattr(torch.optim, kind)) and ours.__name__ == kind and ours is without_compiler(getattr(torch.optim, kind))
    for made in (ours, getattr(torch.optim, kind)):
        torch.manual_seed(0)
        net, counted = torch.nn.Linear(4, 3), []
        optimizer = made([{"params": [net.weight]}, {"params": [net.bias], "lr": 0.5}], lr=0.1, weight_decay=0.1)
        optimizer.register_step_post_hook(lambda *_, counted=counted: counted.append(1))
        for _ in range(3):
            optimizer.zero_grad()
            net(torch.ones(2, 4)).square().sum().backward()
            optimizer.step()
        again = made(net.parameters(), lr=0.1)
        again = made([{"params": [net.weight]}, {"params": [net.bias]}], lr=0.1)
        again.load_state_dict(optimizer.state_dict())
        assert len(counted) == 3 and again.param_groups[1]["lr"] == 0.5
        ends.append(net.weight.detach())
        copied = pickle.loads(pickle.dumps(optimizer))
        assert type(copied) is type(optimizer) and copied.param_groups[1]["lr"] == 0.5
        assert type(copy.deepcopy(optimizer)) is type(optimizer)
    assert torch.equal(*ends)
