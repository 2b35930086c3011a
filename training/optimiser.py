"""The optimiser of a run, and how its learning rates go: functions of the settings and the step, without state.

One group of parameters for each member and kind of parameter, so that members have learning rates of
their own (Algorithm 1) and only convolutions are decayed.
"""

import math
from typing import Any, Final

import torch
from torch import nn

from training.config import TrainConfig
from training.muon import Muon

_MOMENTUM: Final = 0.9
# Of a one-cycle: the share of the run in which the rate rises, from this share of its height.
_RISE: Final = 0.25
_START: Final = 1 / 25
# A milestone divides the rate by this.
_DROP: Final = 10.0
# What a group of parameters has from how its optimiser was built, and not from what it has learned.
_OWN: Final = ("lr", "fused", "foreach", "capturable")


def build_optimiser(members: nn.ModuleList, config: TrainConfig, *, recorded: bool = False) -> torch.optim.Optimizer:
    """Returns the optimiser of the members' parameters.

    L2 goes through the gradient, as in the paper's recipe, and not beside it, as in AdamW; the penalty
    c |w|^2 has the gradient 2 c w, which is what torch calls a weight decay of 2 c.

    Args:
        members: The networks, on their device.
        config: The settings.
        recorded: Whether its steps are recorded on a CUDA device: learning rates then lie there, where a replay
            looks them up.
    """
    groups: list[dict[str, Any]] = []
    for k, member in enumerate(members):
        kernels = {id(module.weight) for module in member.modules() if isinstance(module, nn.modules.conv._ConvNd)}
        for are_kernels in (True, False):
            parameters = [weight for weight in member.parameters() if (id(weight) in kernels) == are_kernels]
            decay = 2 * config.weight_decay if are_kernels else 0.0
            if parameters:
                rate = torch.zeros((), device=parameters[0].device) if recorded else 0.0
                groups.append({"params": parameters, "lr": rate, "weight_decay": decay, "member": k,
                               "kernels": are_kernels})  # fmt: skip
    fused = recorded or None
    if config.optimiser == "muon":
        return Muon(groups, fused=fused)
    if config.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=_MOMENTUM, nesterov=True, fused=fused)
    return torch.optim.Adam(groups, lr=0.0, fused=fused, capturable=recorded)


def restore_optimiser(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Puts a state into an optimiser, which stays of the kind it is: the state may come from another device's.

    Raises:
        ValueError: Of other parameters.
    """
    own: list[dict[str, Any]] = [{name: group[name] for name in _OWN if name in group}
                                 for group in optimiser.param_groups]  # fmt: skip
    optimiser.load_state_dict(state)
    for group, options in zip(optimiser.param_groups, own, strict=True):
        group.update(options)
        for parameter in group["params"]:
            kept = optimiser.state.get(parameter, {})
            if "step" in kept:  # counted where the weights are, or else on the CPU
                kept["step"] = kept["step"].to(parameter.device if options["fused"] else "cpu")


def set_learning_rates(optimiser: torch.optim.Optimizer, config: TrainConfig, progress: float) -> None:
    """Gives each member its learning rate.

    Args:
        optimiser: Of `build_optimiser`.
        config: The settings.
        progress: The share of the run that is done, in [0, 1).
    """
    factor = schedule(config.schedule, progress, config.milestones)
    for group in optimiser.param_groups:
        rate = config.learning_rates[group["member"]] * factor
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def schedule(name: str, progress: float, milestones: tuple[float, ...] = ()) -> float:
    """The learning rate as a share of its height.

    Args:
        name: `constant`; `cosine`, half of one, from 1 to 0; `one-cycle`, a rise from 1/25 over a quarter of
            the run and half a cosine down to 0; `steps`, a tenth of what it was after each milestone.
        progress: The share of the run that is done, in [0, 1).
        milestones: Of `steps`, shares of the run.
    """
    if name == "cosine":
        return _fall(progress)
    if name == "one-cycle":
        if progress < _RISE:
            return _START + (1 - _START) * progress / _RISE
        return _fall((progress - _RISE) / (1 - _RISE))
    return float(_DROP ** -sum(progress >= milestone for milestone in milestones))


def _fall(progress: float) -> float:
    """Half a cosine from 1 to 0."""
    return 0.5 * (1 + math.cos(math.pi * progress))
