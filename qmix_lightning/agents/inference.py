"""Values of one step where nobody asks for gradients: compiled loops over the memory of an agent's parameters."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qmix_lightning.agents.inputs import write_known
from qmix_lightning.functional.compiling import kernel_over, may_compute, readable
from qmix_lightning.functional.gates import gru_memory
from qmix_lightning.functional.products import SGEMM, multiply
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
        self._usable = SGEMM != 0 and self._bound.readable()
        if not self._usable:
            return
        self._sizes, self._hidden_size = agent.input.sizes, agent.memory_size
        gru, size = agent.gru, agent.memory_size
        self._weights = tuple(
            weight.detach().numpy()
            for weight in (
                agent.input.linear.weight, agent.input.linear.bias, gru.weight_ih_l0, gru.weight_hh_l0,
                gru.bias_ih_l0.view(3, size), gru.bias_hh_l0.view(3, size), agent.head.weight, agent.head.bias,
            )
        )  # fmt: skip

    def __reduce__(self) -> tuple[type[GRUInference], tuple[()]]:
        """Copy nothing."""
        return GRUInference, ()

    def fits(self) -> bool:
        """Whether the agent's parameters are where they were."""
        return self._bound.stays()

    def takes(self, observation: Tensor, last_action: Tensor, memory: Tensor) -> bool:
        """Whether kernels may stand in for torch's operations on these tensors and the parameters."""
        return (
            self._usable
            and may_compute()
            and readable(observation, last_action, memory)
            and last_action.dtype == torch.int64
            and observation.dtype == memory.dtype == torch.float32
            and observation.shape[:2] == last_action.shape == memory.shape[:2]
            and (observation.shape[2], memory.shape[2]) == (self._sizes[0], self._hidden_size)
        )

    def run(self, observation: Tensor, last_action: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Values and new memory, as of ``step`` of the agent but for roundings.

        Raises:
            IndexError: If there is no such last action.
        """
        value, after = observation.new_empty(*last_action.shape, len(self._weights[-1])), torch.empty_like(memory)
        seen, written = (observation.numpy(), last_action.numpy(), memory.numpy()), (value.numpy(), after.numpy())
        if not gru_step(SGEMM, self._weights, seen, self._room(last_action.shape), written):
            raise IndexError(
                f"Expected last actions from {NO_ACTION}, none, to {self._sizes[1] - 1}, got {last_action.min()} to"
                f" {last_action.max()}."
            )
        return value, after

    def _room(self, shape: torch.Size) -> Any:
        """Where one thread computes: memory that comes and goes costs as much as the gates, page by page."""
        if getattr(self._here, "shape", None) != shape:
            sizes = (self._sizes[1] + 1,), (self._sizes[2],), shape, (2, shape.numel(), 3)
            self._here.room = tuple(np.empty((*size, self._hidden_size), dtype=np.float32) for size in sizes)
            self._here.shape = shape
        return self._here.room


@kernel_over(write_known, gru_memory, multiply)
def gru_step(sgemm: int, weights: Any, seen: Any, room: Any, written: Any) -> bool:
    """Write the values and the new memory of one step of an agent with a GRU.

    Args:
        sgemm: :data:`~qmix_lightning.functional.products.SGEMM`.
        weights: A tuple of weight and bias of the first layer, of the GRU the weights of input and memory
            ``[3 H, H]`` and the biases of both ``[3, H]``, and of the head weight and bias.
        seen: A tuple of observation ``[B, N, O]``, last action ``[B, N]`` and memory ``[B, N, H]``.
        room: A tuple of room for :func:`~qmix_lightning.agents.inputs.write_known`, ``[A + 1, H]`` and ``[N, H]``, for
            the input of the GRU, ``[B, N, H]``, and for what its weights make of input and memory, ``[2, B N, 3, H]``.
        written: A tuple of values ``[B, N, A]`` and new memory ``[B, N, H]``, which are written.

    Returns:
        Whether there are such last actions.
    """
    first, first_bias, of_input, of_memory, input_bias, memory_bias, head, head_bias = weights
    (observation, last_action, memory), (of_action, of_agent, x, layers), (value, after) = seen, room, written
    n_battles, n_agents, size = memory.shape
    n_rows, n_observed = n_battles * n_agents, observation.shape[2]
    if not write_known(first[:, n_observed:], first_bias, last_action, of_action, of_agent, x):
        return False
    rows, before, new = x.reshape(n_rows, size), memory.reshape(n_rows, size), after.reshape(n_rows, size)
    multiply(sgemm, observation.reshape(n_rows, n_observed), first[:, :n_observed], rows, np.float32(1))
    for i in range(n_rows):
        for j in range(size):
            rows[i, j] = np.float32(0) if rows[i, j] < 0 else rows[i, j]  # which lets NaN pass
    multiply(sgemm, rows, of_input, layers[0].reshape(n_rows, 3 * size), np.float32(0))
    multiply(sgemm, before, of_memory, layers[1].reshape(n_rows, 3 * size), np.float32(0))
    gru_memory(layers[0], layers[1], input_bias, memory_bias, before, new)
    values = value.reshape(n_rows, len(head_bias))
    for i in range(n_rows):
        for a in range(len(head_bias)):
            values[i, a] = head_bias[a]
    multiply(sgemm, new, head, values, np.float32(1))
    return True
