"""One step of an agent without a memory, in one compiled call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import nn

from qmix_lightning.agents.inference import CompiledStep, arrays_of, find_active, pick, spread
from qmix_lightning.agents.inputs import AgentInput, write_known
from qmix_lightning.functional.compiling import kernel_over
from qmix_lightning.functional.products import multiply


@kernel_over(write_known, multiply, find_active)
def mlp_step(sgemm: int, weights: Any, seen: Any, may: Any, room: Any, written: Any) -> int:
    """Write the values of one step of an agent without a memory; see :class:`CompiledStep`.

    Args:
        sgemm: :data:`~qmix_lightning.functional.products.SGEMM`.
        weights: A tuple of weight and bias of the first layer, and of tuples of those of the others.
        seen: A tuple of observation ``[B, N, O]``, last action ``[B, N]`` and memory ``[B, N, 0]``.
        may: ``[B, N, A]`` bool, legal actions. Who may do nothing but action 0 is passed over: its values are 0.
            Without entries, nobody is.
        room: A tuple of room for as many rows M as are worked on at once, one for each agent of each battle: their
            numbers ``[M]`` int64, for :func:`~qmix_lightning.agents.inputs.write_known`, ``[A + 1, H]`` and ``[N, H]``,
            for one layer and the next ``[M, H]``, and for observation, memory, new memory and values, where some are
            passed over.
        written: A tuple of values ``[B, N, A]``, which are written, and new memory ``[B, N, 0]``.

    Returns:
        0; 1, with some of it unwritten, if there are no such last actions.
    """
    first, first_bias, layers, biases = weights
    numbers, of_action, of_agent, x, y, few_seen, few_before, few_after, few_values = room
    n_all, n_observed, n_actions, n_layers = seen[1].size, seen[0].shape[2], written[0].shape[2], len(layers)
    for begin in range(0, n_all, len(numbers)):
        end = min(begin + len(numbers), n_all)
        observation = seen[0].reshape(n_all, n_observed)[begin:end]
        value = written[0].reshape(n_all, n_actions)[begin:end]
        n = find_active(may.reshape(-1, n_actions), begin, end, numbers)
        if not write_known(first[:, n_observed:], first_bias, seen[1], of_action, of_agent, numbers[:n], x):
            return 1
        values = value
        if n < end - begin:
            pick(observation, numbers[:n], begin, few_seen)
            observation, values = few_seen, few_values
        multiply(sgemm, observation[:n], first[:, :n_observed], x[:n], np.float32(1))
        for k in range(n_layers):
            out = values if k == n_layers - 1 else y
            for i in range(n):
                for j in range(x.shape[1]):
                    x[i, j] = np.float32(0) if x[i, j] < 0 else x[i, j]  # which lets NaN pass
                for j in range(out.shape[1]):
                    out[i, j] = biases[k][j]
            multiply(sgemm, x[:n], layers[k], out[:n], np.float32(1))
            x, y = y, x
        if n < end - begin:
            spread(few_after, values, numbers[:n], begin, few_before, few_before, value)
    return 0


class MLPStep(CompiledStep):
    """Runs one step of an :class:`~qmix_lightning.agents.mlp.MLPAgent`."""

    kernel = staticmethod(mlp_step)

    def parts_of(self, agent: Any) -> Mapping[str, type[nn.Module]]:
        """What kind of module each part must be: a layer after each ReLU, or nothing is bound."""
        n_parts = len(agent.head) if isinstance(agent.head, nn.Sequential) else 0
        if n_parts == 0 or n_parts % 2:
            return {}
        head = {f"head.{k}": nn.Linear if k % 2 else nn.ReLU for k in range(n_parts)}
        return {"input": AgentInput, "input.linear": nn.Linear, "head": nn.Sequential, **head}

    def weights_of(self, agent: Any) -> Any:
        """Weights and biases of all layers."""
        first, others = agent.input.linear, list(agent.head)[1::2]
        size, n_actions = first.out_features, agent.n_actions
        sizes = [*[size] * (len(others) - 1), n_actions]
        known = arrays_of((first.weight, (size, sum(agent.input.sizes))), (first.bias, (size,)))
        weights = arrays_of(*((layer.weight, (n, size)) for layer, n in zip(others, sizes, strict=True)))
        biases = arrays_of(*((layer.bias, (n,)) for layer, n in zip(others, sizes, strict=True)))
        return None if known is None or weights is None or biases is None else (*known, weights, biases)

    def layers(self, n_rows: int, size: int) -> list[tuple[int, ...]]:
        """The next layer."""
        return [(n_rows, size)]
