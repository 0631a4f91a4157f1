"""Optimizers: what a config says is what torch's optimizer does, and the same twice."""

import pytest
import torch
from torch import nn

from clipzoo.config.checking import check
from clipzoo.errors import ConfigError
from clipzoo.optim import SGD, AdamW
from clipzoo.registries import OPTIMIZERS


def make_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 80), nn.Tanh(), nn.Linear(80, 1)).double()


def train(optimizer, model, steps=5):
    inputs = torch.randn(16, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for _ in range(steps):
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


def naive_adamw(model, lr, weight_decay, betas, eps, steps=5):
    """AdamW written out; weights of two dimensions are decayed."""
    inputs = torch.randn(16, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    parameters = list(model.parameters())
    first, second = [torch.zeros_like(p) for p in parameters], [torch.zeros_like(p) for p in parameters]
    for t in range(1, steps + 1):
        gradients = torch.autograd.grad(model(inputs).square().mean(), parameters)
        with torch.no_grad():
            for p, g, m, v in zip(parameters, gradients, first, second, strict=True):
                p -= lr * (weight_decay if p.ndim > 1 else 0) * p
                m.copy_(betas[0] * m + (1 - betas[0]) * g)
                v.copy_(betas[1] * v + (1 - betas[1]) * g * g)
                p -= lr * (m / (1 - betas[0] ** t)) / ((v / (1 - betas[1] ** t)).sqrt() + eps)
    return [p.detach() for p in parameters]


def test_adamw_equals_the_formula_and_decays_weights_only():
    model = make_model()
    built = AdamW(lr=0.02, weight_decay=0.5, betas=[0.8, 0.95], eps=1e-6).build(model)
    assert isinstance(built, torch.optim.AdamW) and built.defaults["fused"]
    expected = naive_adamw(make_model(), 0.02, 0.5, (0.8, 0.95), 1e-6)
    for got, want in zip(train(built, model), expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "TimmOptimizer"])
def test_every_optimizer_lowers_the_loss_and_is_the_same_twice(name):
    results = []
    for threads in (1, 1, 2):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            model = make_model().float()
            built = OPTIMIZERS.build(name).build(model)
            for p in model.parameters():
                p.grad = torch.sin(torch.arange(p.numel(), dtype=torch.float32)).reshape(p.shape)
            for _ in range(3):
                built.step()
            results.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
        finally:
            torch.set_num_threads(before)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])

    model = make_model()
    inputs = torch.randn(16, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    before = model(inputs).square().mean()
    train(OPTIMIZERS.build({"type": name, "lr": 0.01}).build(model), model)
    assert model(inputs).square().mean() < before


def test_sgd_hands_on_its_arguments():
    built = SGD(lr=0.5, momentum=0.8, weight_decay=0.1, nesterov=True).build(make_model())
    assert isinstance(built, torch.optim.SGD)
    assert [(g["name"], g["lr"], g["momentum"], g["weight_decay"], g["nesterov"]) for g in built.param_groups] == [
        ("decay", 0.5, 0.8, 0.1, True),
        ("no_decay", 0.5, 0.8, 0.0, True),
    ]


def test_a_state_dict_holds_plain_types_only(tmp_path):
    model = make_model()
    built = AdamW().build(model)
    train(built, model, steps=1)
    torch.save(built.state_dict(), tmp_path / "state.pth")
    state = torch.load(tmp_path / "state.pth", weights_only=True)
    other = AdamW(lr=1.0).build(make_model())
    other.load_state_dict(state)
    assert [(g["name"], g["lr"], g["initial_lr"]) for g in other.param_groups] == [("decay", 1e-4, 1e-4), ("no_decay", 1e-4, 1e-4)]


@pytest.mark.parametrize(
    "make",
    [
        lambda: AdamW(lr=0),
        lambda: AdamW(weight_decay=-1),
        lambda: AdamW(betas=(0.9, 1.0)),
        lambda: AdamW(eps=0),
        lambda: SGD(momentum=1.0),
        lambda: SGD(momentum=0, nesterov=True),
    ],
)
def test_arguments_out_of_range_are_refused(make):
    with pytest.raises(ConfigError, match=" is not a number "):
        make()


@pytest.mark.parametrize("opt,arguments", [("lion", {"betas": (0.9, 0.95)}), ("lamb", {}), ("adopt", {}), ("sgdw", {"momentum": 0.5})])
def test_timms_optimizers_are_those_of_timm(opt, arguments):
    import timm.optim

    torch.manual_seed(0)
    net, reference = nn.Linear(4, 3), nn.Linear(4, 3)
    reference.load_state_dict(net.state_dict())
    ours = OPTIMIZERS.build({"type": "timm", "opt": opt, "lr": 0.01, "weight_decay": 0.1, **arguments}).build(net)
    groups = [{"params": [reference.weight], "weight_decay": 0.1}, {"params": [reference.bias], "weight_decay": 0.0}]
    theirs = timm.optim.get_optimizer_class(opt)(groups, lr=0.01, **arguments)
    inputs = torch.randn(8, 4)
    for _ in range(5):
        for model, optimizer in ((net, ours), (reference, theirs)):
            optimizer.zero_grad()
            model(inputs).square().sum().backward()
            optimizer.step()
    assert torch.equal(net.weight, reference.weight) and torch.equal(net.bias, reference.bias)


@pytest.mark.parametrize(
    "spec,message",
    [
        ({"opt": "lionn"}, "optimizer.opt: timm has no optimizer 'lionn'. Did you mean 'lion'?"),
        ({"opt": "lion", "beta": 0.9}, "optimizer.beta: lion has no argument 'beta'. Did you mean 'betas'?"),
        ({"opt": "lion", "betas": (2.0, 0.9)}, "optimizer.opt: timm cannot make lion with .*beta"),
        ({"opt": "adahessian"}, "optimizer.opt: adahessian needs second derivatives"),
        ({}, "optimizer: TimmOptimizer requires 'opt'"),
        ({"opt": "lion", "lr": -1.0}, "optimizer.lr: -1.0 is not a number above 0"),
    ],
)
def test_what_timm_would_refuse_later_is_refused_by_the_check(config_of, spec, message):
    config = config_of(optimizer={"type": "timm", "lr": 1e-3, **spec})
    with pytest.raises(ConfigError, match=message):
        check(config)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_takes_parameters_that_get_their_first_gradient_later(nesterov):
    """As with train.unfreeze; the fused kernel of torch itself fails then."""

    def reference(net):
        return torch.optim.SGD(net.parameters(), 0.1, 0.9, weight_decay=1e-4, nesterov=nesterov)

    ends = []
    for made in (SGD(lr=0.1, momentum=0.9, nesterov=nesterov).build, reference):
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(4, 3, bias=False), torch.nn.Linear(3, 2, bias=False))
        optimizer = made(net)
        for step in range(4):
            net[0].weight.requires_grad_(step >= 2)
            optimizer.zero_grad()
            net(torch.ones(2, 4)).square().sum().backward()
            optimizer.step()
        ends.append([p.detach() for p in net.parameters()])
    for ours, theirs in zip(*ends, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)
