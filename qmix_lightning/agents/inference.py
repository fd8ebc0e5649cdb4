"""Values of one step where nobody asks for gradients: compiled loops over the memory of an agent's parameters."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qmix_lightning.agents.inputs import write_known
from qmix_lightning.functional.compiling import may_compute, readable
from qmix_lightning.functional.gates import gru_memory
from qmix_lightning.spec import NO_ACTION


class Bound:
    """Parameters of some modules, for as long as they stay where they are in memory.

    To look them up, transpose them and read them from numpy takes a third of a step of few battles; to see that they
    are where they were, a thirtieth.

    Args:
        parts: The modules whose own parameters they are; with none, nothing is bound.

    Example:
        >>> layer = nn.Linear(2, 3)
        >>> bound = Bound(layer)
        >>> before = bound.stays(), layer.double()
        >>> before[0], bound.stays()
        (True, False)
    """

    def __init__(self, *parts: nn.Module) -> None:
        self._slots = [(part._parameters, name) for part in parts for name in part._parameters]
        self._places = self._now()

    def stays(self) -> bool:
        """Whether all are the tensors that they were, in the same memory; False if nothing is bound."""
        return bool(self._slots) and self._now() == self._places

    def readable(self) -> bool:
        """Whether kernels may read them; False if nothing is bound."""
        tensors = [tensor for slot, name in self._slots if (tensor := slot[name]) is not None]
        return bool(tensors) and readable(*tensors)

    def _now(self) -> list[int]:
        # A tensor that is kept by a view of it keeps its memory, so that no other can come to lie there.
        return [0 if (tensor := slot[name]) is None else tensor.data_ptr() for slot, name in self._slots]


class GRUInference:
    """Runs one step of a :class:`~qmix_lightning.agents.gru.GRUAgent` without a graph, in room that is used again.

    Copies and pickles of it hold nothing: they would be of the parameters as they were.

    Args:
        agent: Whose parameters to run over; None for nobody.
    """

    def __init__(self, agent: Any = None) -> None:
        parts = () if agent is None else (agent.input.linear, agent.gru, agent.head)
        self._bound, self._here = Bound(*parts), threading.local()
        self._readable = self._bound.readable()
        if not self._readable:
            return
        self._sizes, self._hidden_size = agent.input.sizes, agent.memory_size
        (n_observed, self._n_actions, _), weight = self._sizes, agent.input.linear.weight.detach()
        self._of_observation, self._of_known = weight[:, :n_observed].t(), weight[:, n_observed:].numpy()
        self._known_bias = agent.input.linear.bias.detach().numpy()
        gru = {name: weight.detach() for name, weight in agent.gru.named_parameters()}
        self._of_input, self._of_memory = gru["weight_ih_l0"].t(), gru["weight_hh_l0"].t()
        self._input_bias, self._memory_bias = (
            gru[name].numpy().reshape(3, self._hidden_size) for name in ("bias_ih_l0", "bias_hh_l0")
        )
        self._head, self._head_bias = agent.head.weight.detach().t(), agent.head.bias.detach()

    def __reduce__(self) -> tuple[type[GRUInference], tuple[()]]:
        """Copy nothing."""
        return GRUInference, ()

    def fits(self) -> bool:
        """Whether the agent's parameters are where they were."""
        return self._bound.stays()

    def takes(self, observation: Tensor, last_action: Tensor, memory: Tensor) -> bool:
        """Whether kernels may stand in for torch's operations on these tensors and the parameters."""
        return (
            self._readable
            and may_compute()
            and readable(observation, last_action, memory)
            and last_action.dtype == torch.int64
            and observation.dtype == memory.dtype == torch.float32
            and observation.shape[:2] == last_action.shape == memory.shape[:2]
        )

    def run(self, observation: Tensor, last_action: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Values and new memory, as of ``step`` of the agent but for roundings.

        Raises:
            IndexError: If there is no such last action.
        """
        size, room = self._hidden_size, self._room(last_action.shape)
        if not write_known(
            self._of_known, self._known_bias, last_action.numpy(), room.of_action, room.of_agent, room.known
        ):
            raise IndexError(
                f"Expected last actions from {NO_ACTION}, none, to {self._n_actions - 1}, got {last_action.min()} to"
                f" {last_action.max()}."
            )
        x = room.x.addmm_(observation.flatten(0, 1), self._of_observation).relu_()
        before, after = memory.view(-1, size), torch.empty_like(memory)
        new = after.view(-1, size)
        torch.mm(x, self._of_input, out=room.from_input)
        torch.mm(before, self._of_memory, out=room.from_memory)
        gru_memory(
            room.input_gates, room.memory_gates, self._input_bias, self._memory_bias, before.numpy(), new.numpy()
        )
        return torch.addmm(self._head_bias, new, self._head).view(*room.shape, -1), after

    def _room(self, shape: torch.Size) -> _Room:
        room: _Room | None = getattr(self._here, "room", None)
        if room is None or room.shape != shape:
            room = self._here.room = _Room(shape, self._hidden_size, self._sizes)
        return room


class _Room:
    """Where one thread computes: memory that comes and goes by the call costs as much as the gates, page by page."""

    def __init__(self, shape: torch.Size, size: int, sizes: Sequence[int]) -> None:
        self.shape, rows = shape, shape.numel()
        self.of_action, self.of_agent = (np.empty((n, size), dtype=np.float32) for n in (sizes[1] + 1, sizes[2]))
        self.known = np.empty((*shape, size), dtype=np.float32)
        self.input_gates, self.memory_gates = (np.empty((rows, 3, size), dtype=np.float32) for _ in range(2))
        self.x = torch.from_numpy(self.known.reshape(rows, size))
        self.from_input, self.from_memory = (
            torch.from_numpy(gates.reshape(rows, -1)) for gates in (self.input_gates, self.memory_gates)
        )
