"""Learning rates by member and by time, and what is decayed."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from training import TrainConfig
from training.optimiser import build_optimiser, restore_optimiser, schedule, set_learning_rates


def members(count: int = 3) -> nn.ModuleList:
    torch.manual_seed(0)
    return nn.ModuleList(
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 6 * 6, 10)).double()
        for _ in range(count)
    )


def moved(config: TrainConfig, *, gradient: float) -> list[dict[str, Tensor]]:
    """How far each member's parameters go in one step, all gradients being that number."""
    nets = members()
    optimiser = build_optimiser(nets, config)
    set_learning_rates(optimiser, config, 0.0)
    before = [{name: value.clone() for name, value in net.named_parameters()} for net in nets]
    for parameter in nets.parameters():
        parameter.grad = torch.full_like(parameter, gradient)
    optimiser.step()
    return [
        {name: value.detach() - before[k][name] for name, value in net.named_parameters()} for k, net in enumerate(nets)
    ]


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_each_member_moves_by_its_own_rate(optimiser: str) -> None:
    config = TrainConfig(optimiser=optimiser, learning_rate=(1e-3, 2e-3, 5e-3), schedule="constant")
    first, *others = moved(config, gradient=0.5)
    for times, other in zip((2, 5), others, strict=True):
        for name, step in other.items():
            torch.testing.assert_close(step, times * first[name], rtol=1e-9, atol=0)


@pytest.mark.parametrize("c", [0.0, 1e-4, 0.3])
def test_the_penalty_is_c_w_squared_on_convolutions_alone(c: float) -> None:
    """Against the gradient of c |w|^2, under SGD: a first Nesterov step is 1.9 times the gradient."""
    config = TrainConfig(optimiser="sgd", learning_rate=1e-2, schedule="constant", weight_decay=c)
    start = dict(members()[0].named_parameters())
    for name, step in moved(config, gradient=0.25)[0].items():
        weight = start[name].detach().requires_grad_()
        penalty = c * (weight**2).sum() if name == "0.weight" else 0 * weight.sum()
        (slope,) = torch.autograd.grad(penalty, weight)
        torch.testing.assert_close(step, -1e-2 * 1.9 * (0.25 + slope), rtol=1e-9, atol=1e-15)


def test_every_parameter_is_in_one_group_once() -> None:
    nets = members()
    twice: Any = nets[1]
    twice.append(twice[0])
    groups = build_optimiser(nets, TrainConfig(weight_decay=1e-4)).param_groups
    ids = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(ids) == sorted(id(parameter) for parameter in nets.parameters())
    assert [(group["member"], group["weight_decay"]) for group in groups] == [
        (k, decay) for k in range(3) for decay in (2e-4, 0.0)
    ]


def test_a_member_without_gradients_stands_still() -> None:
    """A frozen one: neither momentum nor decay moves it."""
    nets = members()
    config = TrainConfig(weight_decay=0.1)
    optimiser = build_optimiser(nets, config)
    set_learning_rates(optimiser, config, 0.0)
    for parameter in nets.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    nets[1].zero_grad(set_to_none=True)
    before = [parameter.clone() for parameter in nets[1].parameters()]
    optimiser.step()
    assert all(torch.equal(now, then) for now, then in zip(nets[1].parameters(), before, strict=True))


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("constant", {0.0: 1, 0.5: 1, 0.99: 1}),
        ("cosine", {0.0: 1, 1 / 3: 0.75, 0.5: 0.5, 2 / 3: 0.25, 1.0: 0}),
        ("one-cycle", {0.0: 1 / 25, 0.125: 0.52, 0.25: 1, 0.5: 0.75, 0.625: 0.5, 0.75: 0.25, 1.0: 0}),
    ],
)
def test_schedules(name: str, table: dict[float, float]) -> None:
    for progress, share in table.items():
        assert schedule(name, progress) == pytest.approx(share, abs=1e-12)


def test_one_cycle_rises_once_and_falls_once() -> None:
    rates = [schedule("one-cycle", step / 1000) for step in range(1000)]
    top = rates.index(max(rates))
    assert top == 250
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_steps_divide_by_ten_at_each_milestone() -> None:
    found = [schedule("steps", progress, (0.5, 0.75)) for progress in (0.0, 0.4999, 0.5, 0.7499, 0.75, 0.999)]
    assert found == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01], rel=1e-12)


def test_a_schedule_scales_every_members_rate() -> None:
    config = TrainConfig(learning_rate=(1e-3, 2e-3, 4e-3), schedule="cosine")
    optimiser = build_optimiser(members(), config)
    set_learning_rates(optimiser, config, 0.5)
    rates: dict[int, Any] = {group["member"]: group["lr"] for group in optimiser.param_groups}
    assert rates == pytest.approx({0: 5e-4, 1: 1e-3, 2: 2e-3})


def steps(nets: nn.ModuleList, optimiser: torch.optim.Optimizer, config: TrainConfig, count: int, start: int) -> None:
    """So many, with gradients of their own."""
    for step in range(start, start + count):
        torch.manual_seed(step)
        set_learning_rates(optimiser, config, step / 10)
        for parameter in nets.parameters():
            parameter.grad = torch.randn_like(parameter)
        optimiser.step()


@pytest.mark.parametrize("name", ["adam", "sgd", "muon"])
@pytest.mark.parametrize("there", [False, True], ids=["from-recorded", "to-recorded"])
def test_a_run_goes_on_where_steps_are_recorded_or_not(name: str, there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recorded optimiser has fused steps and rates in tensors, as a CPU has them too."""
    plain = torch.optim.Adam

    def without(*args: Any, capturable: bool, **others: Any) -> torch.optim.Adam:
        assert isinstance(capturable, bool)  # which a CPU has not
        return plain(*args, **others)

    monkeypatch.setattr(torch.optim, "Adam", without)
    config = TrainConfig(optimiser=name)
    nets, twin = members(), members()
    first = build_optimiser(nets, config, recorded=not there)
    steps(nets, first, config, 3, 0)
    second = build_optimiser(nets, config, recorded=there)
    restore_optimiser(second, first.state_dict())
    steps(nets, second, config, 3, 3)
    steps(twin, build_optimiser(twin, config), config, 6, 0)
    for mine, theirs in zip(nets.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-7)  # rates in float32
    kinds = {type(group["lr"]) for group in second.param_groups}
    assert kinds == ({Tensor} if there else {float})
    assert {group["fused"] for group in second.param_groups} == {True if there else None}
