"""Compiled towers compute what the towers compute, and are saved, scored and resumed as they are."""

import copy

import pytest
import torch

from clipzoo.engine import checkpoint
from clipzoo.engine.steps.compiling import _next_size, compile_towers, enlarged
from clipzoo.errors import BuildError, ConfigError
from clipzoo.files import file_sha256
from clipzoo.structures import Tokens

MODEL = {
    "image_encoder": {"type": "TimmBackbone", "name": "test_vit", "image_size": 32},
    "text_encoder": {"type": "CLIPText", "width": 16, "layers": 1, "heads": 2, "output_dim": 16},
}


@pytest.fixture
def make_compiled(make_runner):
    """A runner of two small transformers; the last of its batches is smaller."""
    return lambda folder, **sections: make_runner(folder, num_train=22, **{"model": MODEL, **sections})


def test_further_captions_and_padding_change_no_feature(make_compiled):
    runner = make_compiled("run")
    tower, tokens = runner.run.model.text_encoder.train(), next(iter(runner.run.train_loader)).text
    more = enlarged(tokens, tower.context_length)
    assert more.ids.shape == (_next_size(len(tokens)), _next_size(tokens.ids.shape[1])) and more.ids.shape > tokens.ids.shape
    torch.testing.assert_close(tower(more)[: len(tokens)], tower(tokens), rtol=1e-5, atol=1e-6)
    assert enlarged(tokens, 7).ids.shape[1] == max(7, tokens.ids.shape[1]), "not beyond the context"
    assert torch.equal(more.lengths[: len(tokens)], tokens.lengths) and more.lengths[len(tokens) :].eq(tokens.lengths[0]).all()
    sizes = {_next_size(number) for number in range(1, 1025)}
    assert len(sizes) == 15 and all(_next_size(number) >= number for number in range(1, 1025))


def test_what_cannot_be_compiled_is_said(make_compiled, config_of):
    frozen = {name: {**spec, "freeze": "all"} for name, spec in MODEL.items()}
    with pytest.raises(BuildError, match="runtime.compile: CLIP has no tower that is trained. Remove it"):
        make_compiled("run", model=frozen, runtime={"compile": "default"})
    with pytest.raises(ConfigError, match="runtime.compile: not supported with runtime.strategy='fsdp'"):
        make_compiled("run", runtime={"compile": "default", "strategy": "fsdp"})
    net = make_compiled("run").run.model
    compile_towers(net, "default")
    with pytest.raises(TypeError, match="compile it afterwards"):
        copy.deepcopy(net)


@pytest.mark.slow
def test_compiled_towers_train_as_others_do_and_resume_bitwise(make_compiled, stopped_at):
    """With inductor on this machine's processor, several sizes of batches, a moving average and gradual unfreezing."""
    sections = {"train": {"epochs": 3, "ema_decay": 0.9, "clip_grad": 0.5, "unfreeze": [{"epoch": 1, "text_encoder": "all"}]}}
    sections["optimizer"] = {"type": "SGD", "lr": 0.05}  # AdamW would amplify the rounding of gradients that are almost 0
    sections["model"] = {**MODEL, "text_encoder": {**MODEL["text_encoder"], "freeze": "all"}}
    plain = make_compiled("plain", **sections)
    plain.fit()
    compiled = make_compiled("compiled", **sections, runtime={"compile": "default"})
    compiled.fit()
    assert compiled.run.rounding["runtime.compile"] == "default"
    ends = [checkpoint.read(one.run.folder / checkpoint.LATEST) for one in (plain, compiled)]
    for key in ("model", "raw_model"):
        assert list(ends[0][key]) == list(ends[1][key])
        for name, value in ends[0][key].items():
            torch.testing.assert_close(ends[1][key][name], value, rtol=2e-3, atol=2e-5, msg=f"{key} {name}")
    assert any(not torch.equal(ends[1]["model"][name], value) for name, value in ends[0]["model"].items()), "it was compiled indeed"
    sections["runtime"] = {"compile": "default"}
    with stopped_at(4):
        make_compiled("stopped", **sections).fit()
    make_compiled("stopped", **sections).fit()
    digests = [file_sha256(compiled.run.folder.parent / folder / checkpoint.LATEST) for folder in ("compiled", "stopped")]
    assert digests[0] == digests[1]


@pytest.mark.slow
def test_every_size_is_compiled(make_compiled, monkeypatch):
    """Torch gives up after eight; which ones they are would depend on where a run was resumed."""
    from torch._dynamo.testing import CompileCounter

    compile_, counter = torch.compile, CompileCounter()
    monkeypatch.setattr(torch, "compile", lambda function, mode, dynamic: compile_(function, backend=counter, dynamic=dynamic))
    net = make_compiled("run", train={"live_vocabulary": False}).run.model.train()
    compile_towers(net, "default")
    for count in (8, 12, 16):
        for length in (8, 12, 16, 24):
            net.text_encoder(Tokens(torch.ones(count, length, dtype=torch.int64), torch.full((count,), length)))
    assert counter.frame_count == 12
    none = net.text_encoder(Tokens(torch.ones(0, 8, dtype=torch.int64), torch.ones(0, dtype=torch.int64)))
    assert none.shape == (0, 16) and counter.frame_count == 12, "a batch without findings has no captions"
