"""How target networks follow the online networks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from itertools import chain
from operator import is_
from typing import Any, ClassVar

import torch
from tensordict.nn import TensorDictParams
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

Pairs = tuple[list[Tensor], list[Tensor]]
"""Tensors of the targets, and those of the online networks that they follow."""


class AbstractTargetUpdate(nn.Module, ABC):
    """Moves every ``target_<name>_params`` of a loss towards its ``<name>_params``, buffers included.

    The interface is that of TorchRL's updaters, except that making one leaves the targets as they are: a loss is born
    with targets equal to its networks, and a resumed run has its own. :meth:`init_` makes them equal.

    Args:
        loss_module: Any module whose children ``<name>_params`` and ``target_<name>_params`` are TensorDictParams: a
            :class:`~qmix_lightning.objectives.qmixer.QMixerLoss` or one of TorchRL's losses.

    Attributes:
        loss_module: The loss. It is no child, so that a checkpoint holds it once.
        initialized: True: there is nothing to do before the first step.

    Raises:
        ValueError: If the loss has no parameters of that name.
        RuntimeError: If it has no targets, or they are not copies of the online networks.
    """

    initialized: ClassVar[bool] = True
    loss_module: nn.Module

    def __init__(self, loss_module: nn.Module) -> None:
        super().__init__()
        self.__dict__["loss_module"] = loss_module
        self._names = _followed(loss_module)
        self._found: list[Tensor] = []
        self._real: Pairs = ([], [])
        self._whole: Pairs = ([], [])
        self._find()
        pairs = (zip(*pairs, strict=True) for pairs in (self._real, self._whole))
        if all(target.is_set_to(source) for target, source in chain.from_iterable(pairs)):
            raise RuntimeError(
                "The target and source data are identical for all params. Have you created proper target parameters?"
                " Make the targets copies of the online networks."
            )
        _promise(loss_module)

    @abstractmethod
    def step(self) -> None:
        """Update the targets; call it after every step of the optimizer."""

    def follow(self, optimizer: Optimizer) -> RemovableHandle:
        """Do :meth:`step` within each step that an optimizer makes from now on, as its last act.

        Whatever happens after it sees the new targets. A step that :class:`torch.amp.GradScaler` leaves out because a
        gradient overflowed is none.

        Args:
            optimizer: Of the loss's parameters.

        Returns:
            What ends it, by ``remove()``.

        Example:
            >>> from qmix_lightning.mixers.vdn import VDNMixer
            >>> from qmix_lightning.objectives.qmixer import QMixerLoss
            >>> from qmix_lightning.objectives.target_update.hard import HardUpdate
            >>> loss = QMixerLoss(nn.Linear(10, 4), VDNMixer(n_agents=3), action_space="categorical")
            >>> optimizer, update = torch.optim.Adam(loss.parameters()), HardUpdate(loss)
            >>> following = update.follow(optimizer)
            >>> optimizer.step()
            >>> update
            HardUpdate(value_network_update_interval=1000, counter=1)
        """
        return optimizer.register_step_post_hook(self._after_step)

    def _after_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # Others are not called where a gradient overflowed; fused ones are told so, and change nothing.
        overflow = getattr(optimizer, "found_inf", None)
        if overflow is None or not overflow.item():
            self.step()

    @torch.no_grad()
    def init_(self) -> None:
        """Make the targets equal to the online networks, now."""
        self._find()
        self._copy(self._real)
        self._copy(self._whole)

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Load what this updater, or TorchRL's of that name, has saved."""
        if "initialized" in state_dict:
            counted = "counter" in state_dict
            state_dict = {"_extra_state": torch.tensor(state_dict["counter"])} if counted else {}
        return super().load_state_dict(state_dict, *args, **kwargs)

    def _find(self) -> None:
        """Look up what to move, if it is not what was looked up before."""
        # Casts, moves and assignments exchange the tensors of the loss. Asking each time whether they are the same
        # objects takes a few microseconds, walking the trees more than a hundred.
        modules = self.loss_module._modules
        trees: Any = [modules[prefix + name] for name in self._names for prefix in ("target_", "")]
        found = [*chain.from_iterable((*tree._parameters.values(), *tree._buffers.values()) for tree in trees)]
        if len(found) == len(self._found) and all(map(is_, found, self._found)):
            return
        real: Pairs = ([], [])
        whole: Pairs = ([], [])
        for name in self._names:
            sources, targets = (_leaves(modules[prefix + name]) for prefix in ("", "target_"))
            if _sizes(sources) != _sizes(targets):
                raise RuntimeError(
                    f"Incongruent target and source parameter lists: {name} is {_sizes(sources)}, but target_{name} is"
                    f" {_sizes(targets)}. Make the target a copy of the online network."
                )
            for key, target in targets.items():
                if target.requires_grad:
                    raise RuntimeError(
                        f"the target parameter is part of a graph. Expected target_{name} to hold buffers, but {key}"
                        " requires gradients. Detach the copy."
                    )
                pairs = real if target.is_floating_point() or target.is_complex() else whole
                pairs[0].append(target)
                pairs[1].append(sources[key])
        self._found, self._real, self._whole = found, real, whole

    @staticmethod
    def _copy(pairs: Pairs) -> None:
        if pairs[0]:
            torch._foreach_copy_(*pairs)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_found": [], "_real": ([], []), "_whole": ([], [])}


def _followed(loss_module: nn.Module) -> list[str]:
    """Names of the online parameters that have targets."""
    children = dict(loss_module.named_children()) if isinstance(loss_module, nn.Module) else {}
    params = {name for name, child in children.items() if isinstance(child, TensorDictParams)}
    params = {name for name in params if name.endswith("_params")}
    if not params:
        raise ValueError(
            "The loss_module must be a LossModule instance. Expected a module whose children <name>_params and"
            f" target_<name>_params are TensorDictParams, such as QMixerLoss, got {type(loss_module).__name__}."
            " Give the loss itself, not the module that owns it."
        )
    targets = [name for name in children if name in params and name.startswith("target_")]
    if not targets:
        raise RuntimeError(
            "Did not find any target parameters or buffers in the loss module."
            " A loss made with delay_value=True has some; with delay_value=False there is nothing to update."
        )
    sources = [name.removeprefix("target_") for name in targets]
    for name in sources:
        if name not in params:
            raise RuntimeError(
                f"Incongruent target and source parameter lists: {name} is not an attribute of the loss_module. It has"
                f" {', '.join(sorted(params))}."
            )
    return sources


def _promise(loss_module: Any) -> None:
    """End the warning that nobody updates the targets, in our losses and in TorchRL's."""
    if hasattr(loss_module, "has_target_update"):
        loss_module.has_target_update = True
    for name in getattr(loss_module, "_has_update_associated", {}):
        loss_module._has_update_associated[name] = True


def _leaves(tree: Any) -> dict[str, Tensor]:
    return dict(tree._parameters) | dict(tree._buffers)


def _sizes(leaves: Mapping[str, Tensor]) -> dict[str, list[int]]:
    return {name: list(leaves[name].shape) for name in sorted(leaves)}
