"""The adapter writes what the schedule says, to real optimizers."""

from __future__ import annotations

import pytest
import torch

from tempo.errors import UserError
from tempo.scheduler.apply_to_optimizer import ScheduleAdapter
from tempo.scheduler.onecycle import OneCycle
from tempo.scheduler.range_test import RangeTest
from tests.scheduler.options import OPTIONS, build

ONECYCLE = OneCycle(min_lr=0.1, max_lr=1.0)
STEADY = OneCycle(min_lr=0.1, max_lr=1.0, min_momentum=None, max_momentum=None)


def parameters(count: int = 2) -> list[torch.nn.Parameter]:
    torch.manual_seed(0)
    return [torch.nn.Parameter(torch.randn(3)) for _ in range(count)]


def sgd(**settings) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters(), **{"lr": 0.5, "momentum": 0.9, **settings})


@pytest.mark.parametrize("option", OPTIONS)
def test_every_schedule_reaches_sgd(option):
    optimizer, schedule = sgd(), build(option)
    adapter = ScheduleAdapter(optimizer, schedule, 20)
    for step in range(20):
        values = adapter.apply(step)
        assert values == schedule.at(step, 20)
        assert optimizer.param_groups[0]["lr"] == values["lr"]
        assert optimizer.param_groups[0]["momentum"] == values.get("momentum", 0.9)
    assert adapter.steps_applied == 20


@pytest.mark.parametrize("name", ["Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop"])
def test_momentum_or_beta1_follows_and_beta2_stays(name):
    given = {"momentum": 0.9} if name == "RMSprop" else {"betas": (0.9, 0.98)}
    optimizer = getattr(torch.optim, name)(parameters(), lr=0.5, **given)
    momentum = ScheduleAdapter(optimizer, ONECYCLE, 21).apply(9)["momentum"]
    assert momentum == ONECYCLE.at(9, 21)["momentum"] != 0.9
    group = optimizer.param_groups[0]
    assert group.get("momentum", group.get("betas")) == (momentum if name == "RMSprop" else (momentum, 0.98))


def test_the_update_itself_uses_the_values():
    weight = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    optimizer = torch.optim.SGD([weight], lr=123.0, momentum=0.9)
    adapter = ScheduleAdapter(optimizer, ONECYCLE, 11)
    expected, velocity = 1.0, 0.0
    for step in range(11):
        adapter.apply(step)
        weight.grad = 0.3 * weight.detach()
        optimizer.step()
        values = ONECYCLE.at(step, 11)
        velocity = (values["momentum"] if step else 0.0) * velocity + 0.3 * expected
        expected -= values["lr"] * velocity
    assert weight.item() == pytest.approx(expected, rel=1e-12)


def test_a_momentum_of_zero_is_written_too():
    optimizer = sgd(momentum=0.9)
    low = OneCycle(min_lr=0.1, max_lr=1.0, min_momentum=0.0, max_momentum=0.9)
    assert ScheduleAdapter(optimizer, low, 21).apply(9)["momentum"] == 0
    assert optimizer.param_groups[0]["momentum"] == 0


def test_each_group_is_written_and_scaled():
    first, second = parameters(2)
    optimizer = torch.optim.SGD(
        [{"params": [first]}, {"params": [second], "lr_scale": 0.1}], lr=1, momentum=0.9
    )
    returned = ScheduleAdapter(optimizer, ONECYCLE, 11).apply(3)
    assert [group["lr"] for group in optimizer.param_groups] == [returned["lr"], 0.1 * returned["lr"]]
    assert {group["momentum"] for group in optimizer.param_groups} == {returned["momentum"]}


@pytest.mark.parametrize("dampening", [0.0, 0.5, 0.9])
def test_only_the_damped_form_stays_damped(dampening):
    optimizer = sgd(momentum=0.9, dampening=dampening)
    momentum = ScheduleAdapter(optimizer, ONECYCLE, 11).apply(3)["momentum"]
    assert optimizer.param_groups[0]["dampening"] == (momentum if dampening == 0.9 else dampening)


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.optim.SGD(parameters(), lr=0.1),
        lambda: torch.optim.RMSprop(parameters(), lr=0.1),
        lambda: torch.optim.Adagrad(parameters(), lr=0.1),
        lambda: torch.optim.Adam(parameters(), lr=0.1, betas=(0.0, 0.999)),
    ],
)
def test_a_momentum_curve_needs_momentum(make):
    with pytest.raises(UserError, match=r"scheduler\.min_momentum=null scheduler\.max_momentum=null"):
        ScheduleAdapter(make(), ONECYCLE, 10)
    optimizer = make()
    ScheduleAdapter(optimizer, STEADY, 10).apply(2)
    assert optimizer.param_groups[0]["lr"] == STEADY.at(2, 10)["lr"]


def test_a_tensor_rate_is_filled_in_place():
    rate = torch.tensor(0.5)
    optimizer = torch.optim.SGD(parameters(), lr=rate)
    address = optimizer.param_groups[0]["lr"].data_ptr()
    ScheduleAdapter(optimizer, STEADY, 10).apply(2)
    assert optimizer.param_groups[0]["lr"].data_ptr() == address
    assert optimizer.param_groups[0]["lr"].item() == pytest.approx(STEADY.at(2, 10)["lr"], rel=1e-6)


@pytest.mark.parametrize("step", [-1, 10, 11])
def test_no_step_beyond_the_run(step):
    adapter = ScheduleAdapter(sgd(), ONECYCLE, 10)
    with pytest.raises(ValueError, match="outside a run of 10 steps"):
        adapter.apply(step)
    assert adapter.steps_applied == 0
    with pytest.raises(ValueError, match="at least one step"):
        ScheduleAdapter(sgd(), ONECYCLE, 0)


def test_resuming_continues_the_curve():
    """A state loaded after the adapter was made: torch replaces the groups, momentum may stand at 0 there."""
    schedule = RangeTest(min_lr=0.01, max_lr=1.0, min_momentum=0.0, max_momentum=0.9)

    def run(optimizer: torch.optim.Optimizer, adapter: ScheduleAdapter, steps: range) -> None:
        for step in steps:
            adapter.apply(step)
            for parameter in optimizer.param_groups[0]["params"]:
                parameter.grad = parameter.detach().sin()
            optimizer.step()

    whole, cut, resumed = sgd(), sgd(), sgd()
    run(whole, ScheduleAdapter(whole, schedule, 10), range(10))
    run(cut, ScheduleAdapter(cut, schedule, 10), range(6))
    adapter = ScheduleAdapter(resumed, schedule, 10)
    resumed.load_state_dict(cut.state_dict())
    for new, old in zip(resumed.param_groups[0]["params"], cut.param_groups[0]["params"], strict=True):
        new.data.copy_(old.data)
    run(resumed, adapter, range(6, 10))
    assert adapter.steps_applied == 4
    for new, old in zip(resumed.param_groups[0]["params"], whole.param_groups[0]["params"], strict=True):
        assert torch.equal(new, old)
    # At the end of this curve momentum is 0; an adapter made after loading must still take it.
    ScheduleAdapter(resumed, schedule, 10)
