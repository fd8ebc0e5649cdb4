"""One step of an agent with a GRU, in one compiled call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import nn

from qmix_lightning.agents.inference import CompiledStep, arrays_of, find_active, pick, spread
from qmix_lightning.agents.inputs import AgentInput, write_known
from qmix_lightning.functional.compiling import kernel_over
from qmix_lightning.functional.gates import gru_memory
from qmix_lightning.functional.products import multiply


@kernel_over(write_known, gru_memory, multiply, find_active)
def gru_step(sgemm: int, weights: Any, seen: Any, may: Any, room: Any, written: Any) -> int:
    """Write the values and the new memory of one step of an agent with a GRU.

    Args:
        sgemm: :data:`~qmix_lightning.functional.products.SGEMM`.
        weights: A tuple of weight and bias of the first layer, of the GRU the weights of input and memory
            ``[3 H, H]`` and the biases of both ``[3, H]``, and of the head weight and bias.
        seen: A tuple of observation ``[B, N, O]``, last action ``[B, N]`` and memory ``[B, N, H]``.
        may: ``[B, N, A]`` bool, legal actions. Who may do nothing but action 0 is passed over: its values are 0, its
            memory stays. Without entries, nobody is.
        room: A tuple of room for as many rows M as are worked on at once, one for each agent of each battle: their
            numbers ``[M]`` int64, for :func:`~qmix_lightning.agents.inputs.write_known`, ``[A + 1, H]`` and ``[N, H]``,
            for the input of the GRU, ``[M, H]``, for what its weights make of input and memory, ``[2, M, 3, H]``, and
            for observation, memory, new memory and values, where some are passed over.
        written: A tuple of values ``[B, N, A]`` and new memory ``[B, N, H]``, which are written.

    Returns:
        0; 1, with some of it unwritten, if there are no such last actions.
    """
    first, first_bias, of_input, of_memory, input_bias, memory_bias, head, head_bias = weights
    numbers, of_action, of_agent, x, layers, few_seen, few_before, few_after, few_values = room
    n_battles, n_agents, size = seen[2].shape
    n_all, n_observed, n_actions = n_battles * n_agents, seen[0].shape[2], len(head_bias)
    for begin in range(0, n_all, len(numbers)):
        end = min(begin + len(numbers), n_all)
        observation = seen[0].reshape(n_all, n_observed)[begin:end]
        memory, new = seen[2].reshape(n_all, size)[begin:end], written[1].reshape(n_all, size)[begin:end]
        value = written[0].reshape(n_all, n_actions)[begin:end]
        n = find_active(may.reshape(-1, n_actions), begin, end, numbers)
        if not write_known(first[:, n_observed:], first_bias, seen[1], of_action, of_agent, numbers[:n], x):
            return 1
        before, after, values = memory, new, value
        if n < end - begin:
            pick(observation, numbers[:n], begin, few_seen)
            pick(memory, numbers[:n], begin, few_before)
            observation, before, after, values = few_seen, few_before, few_after, few_values
        multiply(sgemm, observation[:n], first[:, :n_observed], x[:n], np.float32(1))
        for i in range(n):
            for j in range(size):
                x[i, j] = np.float32(0) if x[i, j] < 0 else x[i, j]  # which lets NaN pass
        multiply(sgemm, x[:n], of_input, layers[0, :n].reshape(n, 3 * size), np.float32(0))
        multiply(sgemm, before[:n], of_memory, layers[1, :n].reshape(n, 3 * size), np.float32(0))
        gru_memory(layers[0, :n], layers[1, :n], input_bias, memory_bias, before[:n], after[:n])
        for i in range(n):
            for a in range(n_actions):
                values[i, a] = head_bias[a]
        multiply(sgemm, after[:n], head, values[:n], np.float32(1))
        if n < end - begin:
            spread(after, values, numbers[:n], begin, memory, new, value)
    return 0


class GRUStep(CompiledStep):
    """Runs one step of a :class:`~qmix_lightning.agents.gru.GRUAgent`."""

    kernel = staticmethod(gru_step)

    def parts_of(self, agent: Any) -> Mapping[str, type[nn.Module]]:
        """What kind of module each part must be."""
        return {"input": AgentInput, "input.linear": nn.Linear, "gru": nn.GRU, "head": nn.Linear}

    def weights_of(self, agent: Any) -> Any:
        """Weights and biases of all layers; those of a GRU's gates apart."""
        first, gru, head, size, n_actions = (
            agent.input.linear,
            agent.gru,
            agent.head,
            agent.memory_size,
            agent.n_actions,
        )
        arrays = arrays_of(
            (first.weight, (size, sum(agent.input.sizes))), (first.bias, (size,)),
            (gru.weight_ih_l0, (3 * size, size)), (gru.weight_hh_l0, (3 * size, size)),
            (getattr(gru, "bias_ih_l0", None), (3 * size,)), (getattr(gru, "bias_hh_l0", None), (3 * size,)),
            (head.weight, (n_actions, size)), (head.bias, (n_actions,)),
        )  # fmt: skip
        if arrays is None or gru.num_layers > 1 or gru.bidirectional:
            return None
        return *arrays[:4], arrays[4].reshape(3, size), arrays[5].reshape(3, size), *arrays[6:]

    def layers(self, n_rows: int, size: int) -> list[tuple[int, ...]]:
        """What the GRU's weights make of input and memory."""
        return [(2, n_rows, 3, size)]
