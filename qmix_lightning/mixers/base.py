"""What every mixer has in common."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, SupportsIndex

import torch
from torch import Tensor, nn


class Mixer(nn.Module, ABC):
    """Turns the value of each agent's action into the value of their joint action.

    The signature, the attributes and the words of the errors are those of ``torchrl.modules.models.multiagent.Mixer``.

    Args:
        n_agents: Number of agents N.
        needs_state: Whether the mixer sees the global state.
        state_shape: Shape of one state, e.g. ``(48,)`` or ``(3, 64, 64)``; an integer is a vector of that length.
        device: Where the parameters are made.

    Attributes:
        monotonic: Declares that the joint value never falls when one agent's value rises, whatever the state. Then the
            agents' own greedy actions are the greedy joint action.
        state_dim: Number of elements of one state.

    Raises:
        ValueError: If a size is not positive.

    Example:
        >>> class MeanMixer(Mixer):
        ...     def mix(self, chosen_action_value, state):
        ...         return chosen_action_value.mean(-2)
        >>> MeanMixer(n_agents=2, needs_state=False, state_shape=())(torch.tensor([[[1.0], [2.0]]]))
        tensor([[1.5000]])
    """

    monotonic: ClassVar[bool]

    def __init__(
        self,
        n_agents: int,
        needs_state: bool,
        state_shape: int | Sequence[int],
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.n_agents, self.needs_state = n_agents, needs_state
        self.state_shape = torch.Size([state_shape] if isinstance(state_shape, SupportsIndex) else state_shape)
        self.state_dim = math.prod(self.state_shape)
        self._made_on = torch.get_default_device() if device is None else torch.device(device)
        if n_agents < 1 or (needs_state and min(self.state_shape, default=0) < 1):
            raise ValueError(
                f"{type(self).__name__} expected at least one agent and a state of positive sizes, got"
                f" n_agents={n_agents} and state_shape={tuple(self.state_shape)}."
            )

    @property
    def device(self) -> torch.device:
        """Where the parameters are now; of a mixer without any, where it was made."""
        return next((parameter.device for parameter in self.parameters()), self._made_on)

    def forward(
        self,
        *inputs: Tensor,
        chosen_action_value: Tensor | None = None,
        state: Tensor | None = None,
        agent_mask: Tensor | None = None,
    ) -> Tensor:
        """Mix, after checking the shapes.

        A ``TensorDictModule`` whose ``in_keys`` are a dict gives the inputs by their names, the mask among them.

        Args:
            *inputs: The value of each agent's action, ``[*B, N, 1]``, and the state ``[*B, *state_shape]`` if needed.
            chosen_action_value: The first of them, by its name.
            state: The second, by its name.
            agent_mask: ``[*B, N, 1]`` or ``[*B, N]`` bool, False for agents that are dead, padded or not acting. Their
                values become 0 before :meth:`mix`, so that they add nothing to a weighted sum, and whatever they were,
                NaN included, reaches neither the joint value nor a gradient.

        Returns:
            The value of the joint action, ``[*B, 1]``.

        Raises:
            ValueError: If the number or the shape of the inputs, or the shape that :meth:`mix` returns, is wrong, or
                the mask is not bool.
        """
        inputs += tuple(tensor for tensor in (chosen_action_value, state) if tensor is not None)
        state = self._checked_state(inputs)
        value = inputs[0]
        if value.shape[-2:] != (self.n_agents, 1):
            raise ValueError(
                f"Mixer network expected chosen_action_value with last 2 dimensions {(self.n_agents, 1)},"
                f" but got {value.shape}"
            )
        batch = value.shape[:-2]
        if state is not None and state.shape[: -len(self.state_shape)] != batch:
            raise ValueError(
                f"Mixer network expected state with the leading shape {batch} of chosen_action_value,"
                f" but got state shape {state.shape}. Each state must belong to the values it mixes."
            )
        if agent_mask is not None:
            value = torch.where(_as_column(agent_mask, value), value, 0)
        output = self.mix(value, state)
        if output.shape != (*batch, 1):
            raise ValueError(
                "Mixer network expected output with same shape as input minus the multi-agent dimension,"
                f" but got {output.shape}"
            )
        return output

    def mixing_weights(self, state: Tensor) -> dict[str, Tensor] | None:
        """The weights, none of them negative, by which this mixer would weigh the agents at some states, for show.

        Args:
            state: ``[*B, *state_shape]``.

        Returns:
            Tensors ``[*B, ...]`` by name; None if there are none that depend on the state.
        """
        return None

    def _checked_state(self, inputs: tuple[Tensor, ...]) -> Tensor | None:
        if not self.needs_state:
            if len(inputs) != 1:
                raise ValueError(
                    "Mixer that doesn't need state was passed more than 1 input, or none: expected"
                    f" chosen_action_value alone, but got {len(inputs)} inputs"
                )
            return None
        if len(inputs) != 2:
            raise ValueError(
                "Mixer that needs state was passed more than 2 inputs, or fewer: expected chosen_action_value and"
                f" state, but got {len(inputs)}"
            )
        state = inputs[1]
        if state.shape[-len(self.state_shape) :] != self.state_shape:
            raise ValueError(
                f"Mixer network expected state with ending shape {self.state_shape}, but got state shape {state.shape}"
            )
        return state

    @abstractmethod
    def mix(self, chosen_action_value: Tensor, state: Tensor | None) -> Tensor:
        """Mix inputs whose shapes were checked.

        Args:
            chosen_action_value: ``[*B, N, 1]``, 0 for agents that are masked.
            state: ``[*B, *state_shape]``, None if the mixer needs none.

        Returns:
            ``[*B, 1]``.
        """


def _as_column(agent_mask: Tensor, value: Tensor) -> Tensor:
    mask = agent_mask.unsqueeze(-1) if agent_mask.shape == value.shape[:-1] else agent_mask
    if mask.shape != value.shape or mask.dtype != torch.bool:
        raise ValueError(
            f"Mixer network expected agent_mask of bool with the shape {tuple(value.shape)} of chosen_action_value or"
            f" {tuple(value.shape[:-1])}, but got {agent_mask.dtype} {tuple(agent_mask.shape)}. It is True for each"
            " agent that takes part."
        )
    return mask
