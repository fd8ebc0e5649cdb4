"""Mostly the action that a policy chose, sometimes any."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from tensordict import NestedKey, TensorDictBase, unravel_key
from tensordict.nn import InteractionType, TensorDictModuleBase
from tensordict.nn.probabilistic import interaction_type
from tensordict.utils import expand_as_right
from torch import Tensor

from qmix_lightning.actors.action_spaces import find_action_space
from qmix_lightning.actors.specs import composite_like, is_composite, is_spec
from qmix_lightning.exploration.random_action import random_action, random_action_of
from qmix_lightning.spec import TaskSpec


class EGreedyModule(TensorDictModuleBase):  # type: ignore[misc]
    r"""Replaces actions by random legal ones with probability ε, which falls; a drop-in for TorchRL's class.

    .. math::

        a \leftarrow \begin{cases} \text{uniform over the legal actions} & \text{with probability } \epsilon \\
        a & \text{otherwise} \end{cases}, \qquad
        \epsilon_n = \max\!\Big(\epsilon_{end},\; \epsilon_{init} - n\,\frac{\epsilon_{init} - \epsilon_{end}}{N}\Big)

    after n of N frames. There is one draw for each element of the tensordict that holds the action: one for each agent
    if the action is ``("agents", "action")`` and ``"agents"`` has a dimension for them, else one for all agents
    together. Only under ``tensordict.nn.set_interaction_type("random")``, or none, anything is replaced; that is what
    TorchRL's ``set_exploration_type`` sets. Seeded alike, the actions are TorchRL's.

    Args:
        spec: What actions there are: their number A, a :class:`~qmix_lightning.spec.TaskSpec`, a TorchRL spec of the
            action, or a Composite of such.
        eps_init: ε at the beginning, from 0 to 1, a float.
        eps_end: ε at the end, from 0 to ``eps_init``.
        annealing_num_steps: Number of frames N from the one to the other, at least 1.
        action_key: Where the action is read and written.
        action_mask_key: Where a mask ``[*B, A]`` of legal actions is read; None makes all actions legal.
        device: Where ε is kept, the device of the actions.
        action_space: How actions are written down if ``spec`` is none of TorchRL's: ``"categorical"``, which None
            means, or ``"one-hot"``.

    Attributes:
        spec: The Composite with the spec of the action, or what was given if that is none of TorchRL's.

    Raises:
        RuntimeError: If ``eps_end`` exceeds ``eps_init``.
        ValueError: If ε is no probability, there are no frames or no actions, or the action space is unknown or given
            twice.
        TypeError: If ``spec`` is nothing of the above.

    Example:
        >>> from tensordict import TensorDict
        >>> explore = EGreedyModule(3, eps_init=1.0, eps_end=0.05, annealing_num_steps=50_000, action_mask_key="legal")
        >>> legal = torch.tensor([False, False, True]).expand(4, 3)
        >>> explore(TensorDict(action=torch.zeros(4, dtype=torch.int64), legal=legal, batch_size=[4]))["action"]
        tensor([2, 2, 2, 2])
        >>> explore.step(25_000)
        >>> explore.eps
        tensor(0.5250)

    Source:
        Sutton and Barto, "Reinforcement Learning: An Introduction", 2018, section 2.2; Bou et al., "TorchRL: A
        data-driven decision-making library for PyTorch", 2024, for the interface.
    """

    eps_init: Tensor
    eps_end: Tensor
    eps: Tensor

    def __init__(
        self,
        spec: Any,
        eps_init: float = 1.0,
        eps_end: float = 0.1,
        annealing_num_steps: int = 1000,
        *,
        action_key: NestedKey | None = "action",
        action_mask_key: NestedKey | None = None,
        device: torch.device | None = None,
        action_space: str | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(eps_init, float):
            warnings.warn(  # type: ignore[unreachable]
                f"eps_init should be a float, got {eps_init!r}, whose dtype the state dict would keep.", stacklevel=2
            )
        if eps_end > eps_init:
            raise RuntimeError(
                f"eps should decrease over time or be constant, got eps_init={eps_init} and eps_end={eps_end}. Make"
                " eps_end the smaller one."
            )
        if not (eps_end >= 0 and eps_init <= 1):
            raise ValueError(
                f"eps is a probability, expected numbers from 0 to 1, got eps_init={eps_init} and eps_end={eps_end}."
            )
        if annealing_num_steps < 1:
            raise ValueError(
                f"Expected annealing_num_steps >= 1, got {annealing_num_steps}; for a constant, set eps_init = eps_end."
            )
        self.action_key: NestedKey = "action" if action_key is None else action_key
        self.action_mask_key, self.annealing_num_steps = action_mask_key, annealing_num_steps
        self.in_keys = [self.action_key] if action_mask_key is None else [self.action_key, action_mask_key]
        self.out_keys = [self.action_key]
        self.register_buffer("eps_init", torch.as_tensor(eps_init, device=device))
        self.register_buffer("eps_end", torch.as_tensor(eps_end, device=device))
        self.register_buffer("eps", torch.as_tensor(eps_init, dtype=torch.float32, device=device))
        self.action_space, self._n_actions = action_space, None
        if is_spec(spec):
            spec = spec if is_composite(spec) else composite_like(spec, {self.action_key: spec}, spec.shape[:-1])
            spec = spec if device is None else spec.to(device)
            if action_space is not None:
                raise ValueError(f"TorchRL's specs tell the action space: leave out action_space={action_space!r}.")
        elif spec is not None:
            self.action_space = find_action_space("categorical" if action_space is None else action_space)
            self._n_actions = _number(spec, self.action_space)
        self._spec = spec

    @property
    def spec(self) -> Any:
        """What actions there are."""
        return self._spec

    def step(self, frames: int = 1) -> None:
        """Let ε fall, in one go.

        Args:
            frames: Number of frames since the last time, at least 0.

        Raises:
            ValueError: If ``frames`` is negative.
        """
        if frames < 0:
            raise ValueError(f"Expected frames >= 0, got {frames}. For a greater eps make a new module.")
        fall = (self.eps_init - self.eps_end) / self.annealing_num_steps
        self.eps.data.copy_(torch.maximum(self.eps_end, self.eps - frames * fall))

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Replace some actions.

        Args:
            tensordict: Holds the action and, if there is a mask key, the mask.

        Returns:
            The same tensordict.

        Raises:
            KeyError: If an entry is missing.
            ValueError: If action or mask do not fit the spec.
            RuntimeError: If there is no spec, the action is on another device, or someone has no legal action.
        """
        if interaction_type() not in (InteractionType.RANDOM, None):
            return tensordict
        if self._spec is None:
            raise RuntimeError(
                "spec must be provided to the exploration wrapper. Pass the number of actions, or TorchRL's spec."
            )
        key = unravel_key(self.action_key)
        holder = tensordict.get(key[:-1], None) if isinstance(key, tuple) else tensordict
        name = key[-1] if isinstance(key, tuple) else key
        action = None if holder is None else holder.get(name, None)
        if action is None:
            raise KeyError(f"Action key {self.action_key} not found in {tensordict}. Run the policy first.")
        if action.device != self.eps.device:
            raise RuntimeError(
                "Expected action and e-greedy module to be on the same device, but got"
                f" {action.device=} and e-greedy device={self.eps.device}. Move the module with .to(action.device)."
            )
        explores = expand_as_right(torch.rand(holder.shape, device=action.device) < self.eps, action)
        holder.set(name, torch.where(explores, self._random(action, self._mask(tensordict)), action))
        return tensordict

    def _random(self, action: Tensor, mask: Tensor | None) -> Tensor:
        """Random legal actions of the shape of those that were chosen."""
        if self._n_actions is None:
            leaf = self._spec.get(self.action_key, None)
            if leaf is None:
                known = list(self._spec.keys(True, True))
                raise KeyError(f"No spec of {self.action_key!r} among {known}. Name the action by action_key.")
            return random_action_of(leaf, action, mask)
        one_hot = self.action_space == "one_hot"
        drawn = random_action(action.shape, [self._n_actions], mask, one_hot=one_hot, device=action.device)
        return drawn.to(action.dtype)

    def _mask(self, tensordict: TensorDictBase) -> Tensor | None:
        if self.action_mask_key is None:
            return None
        mask: Tensor | None = tensordict.get(self.action_mask_key, None)
        if mask is None:
            raise KeyError(f"Action mask key {self.action_mask_key} not found in {tensordict}.")
        return mask.bool()


def _number(spec: Any, action_space: str) -> int:
    """The number of actions, said without TorchRL."""
    n_actions = spec.n_actions if isinstance(spec, TaskSpec) else spec
    if not isinstance(n_actions, int):
        raise TypeError(f"Expected spec to be a number of actions, a TaskSpec or one of TorchRL's specs, got {spec!r}.")
    if n_actions < 1 or action_space not in ("categorical", "one_hot"):
        raise ValueError(
            f"Expected at least one action, 'categorical' or 'one-hot', got {n_actions} actions in the"
            f" action_space={action_space!r}. Others need one of TorchRL's specs."
        )
    return n_actions
