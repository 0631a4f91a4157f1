"""Schedules against closed forms and against torch's own schedulers."""

import math
import subprocess
import sys

import pytest
import torch

from clipzoo.errors import ConfigError
from clipzoo.optim.schedules import ConstantSchedule, CosineSchedule, LinearSchedule, StepSchedule
from clipzoo.registries import SCHEDULES

TOTAL, PER_EPOCH = 60, 6


def factors(schedule, total=TOTAL, per_epoch=PER_EPOCH):
    return [schedule.factor(step, total, per_epoch) for step in range(total)]


def torch_factors(make_scheduler, total=TOTAL):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler, values = make_scheduler(optimizer), []
    for _ in range(total):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return values


@pytest.mark.parametrize("ratio", [0.0, 0.1])
def test_cosine_equals_torchs(ratio):
    ours = factors(CosineSchedule(min_lr_ratio=ratio))
    theirs = torch_factors(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=TOTAL - 1, eta_min=ratio))
    assert ours == pytest.approx(theirs, abs=1e-12)
    # After a warm-up, the rest of the run is a whole cosine of its own.
    warm = factors(CosineSchedule(warmup_epochs=1.5, min_lr_ratio=ratio))
    assert warm[9:] == pytest.approx(factors(CosineSchedule(min_lr_ratio=ratio), total=TOTAL - 9), abs=1e-12)


def test_linear_and_steps_equal_torchs():
    ours = factors(LinearSchedule(min_lr_ratio=0.2))
    theirs = torch_factors(lambda o: torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.2, total_iters=TOTAL - 1))
    assert ours == pytest.approx(theirs, abs=1e-12)
    ours = factors(StepSchedule(milestones=[3, 7.5], gamma=0.2))
    assert ours == pytest.approx(torch_factors(lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [18, 45], gamma=0.2)), abs=1e-12)


def test_closed_forms():
    values = factors(CosineSchedule(warmup_steps=4, min_lr_ratio=0.05))
    for step, value in enumerate(values):
        if step < 4:
            assert value == pytest.approx((step + 1) / 5)
        else:
            assert value == pytest.approx(0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - 4) / 55)))
    assert factors(ConstantSchedule(warmup_epochs=0.5)) == pytest.approx([0.25, 0.5, 0.75] + [1.0] * 57)
    assert factors(StepSchedule(milestones=[1, 2], gamma=0.1, min_lr_ratio=0.05))[-1] == 0.05


@pytest.mark.parametrize("warmup", [{}, {"warmup_epochs": 2}, {"warmup_steps": 7}, {"warmup_steps": 200}])
@pytest.mark.parametrize("name", list(SCHEDULES))
def test_every_schedule_keeps_its_promises(name, warmup):
    arguments = {"milestones": [4, 8]} if name == "StepSchedule" else {}
    schedule = SCHEDULES.build({"type": name, **arguments, **warmup})
    values = factors(schedule)
    assert all(0 <= value <= 1 for value in values) and values[0] > 0
    steps = min(schedule.num_warmup_steps(PER_EPOCH), TOTAL)
    assert all(a < b for a, b in zip(values[:steps], values[1 : steps + 1], strict=False))
    assert all(a >= b for a, b in zip(values[steps:], values[steps + 1 :], strict=False))
    assert steps == TOTAL or values[steps] == 1
    if name in ("LinearSchedule", "CosineSchedule") and steps < TOTAL:
        assert values[-1] == pytest.approx(schedule.min_lr_ratio, abs=1e-15)
    assert schedule.factor(TOTAL + 5, TOTAL, PER_EPOCH) == values[-1]
    assert factors(schedule) == values  # no state
    assert 0 < schedule.factor(0, 1, 1) <= 1  # a run of one step


@pytest.mark.parametrize(
    "make",
    [
        lambda: CosineSchedule(warmup_epochs=-1),
        lambda: LinearSchedule(min_lr_ratio=1.5),
        lambda: ConstantSchedule(warmup_epochs=1, warmup_steps=10),
        lambda: ConstantSchedule(warmup_steps=-1),
        lambda: StepSchedule(milestones=[5, 3]),
        lambda: StepSchedule(milestones=[0]),
        lambda: StepSchedule(milestones=[5], gamma=0),
    ],
)
def test_arguments_out_of_range_are_refused(make):
    with pytest.raises(ConfigError, match=" is not a |are not ascending|Remove one of them"):
        make()


def test_importing_the_package_imports_no_torch_and_no_models():
    program = "import sys, clipzoo.optim; sys.exit(any(m in sys.modules for m in ('torch', 'clipzoo.models')))"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
