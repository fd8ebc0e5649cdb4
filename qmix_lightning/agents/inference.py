"""Values of one step where nobody asks for gradients: compiled loops over the memory of an agent's parameters."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Final, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn

from qmix_lightning.agents.inputs import AgentInput, write_known
from qmix_lightning.functional.compiling import inlined, kernel_over, may_compute, readable
from qmix_lightning.functional.gates import gru_memory
from qmix_lightning.functional.products import SGEMM, multiply
from qmix_lightning.functional.stages import Stage, stage_of
from qmix_lightning.spec import NO_ACTION


class Bound:
    """Parts of a module, for as long as they and their parameters or buffers stay where they are.

    To look parameters up, transpose them and read them from numpy takes a third of a step of few battles; to see that
    they are where they were, a thirtieth.

    Args:
        owner: The module; None binds nothing.
        kinds: What kind of module each of its parts must be, by name. Where one is anything else, such as a layer whose
            weight is computed anew in every call, nothing is bound.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 3))
        >>> bound = Bound(network, {"0": nn.Linear})
        >>> before = bound.stays(), network.double()
        >>> before[0], bound.stays()
        (True, False)
    """

    def __init__(self, owner: nn.Module | None = None, kinds: Mapping[str, type[nn.Module]] | None = None) -> None:
        self._parts: list[tuple[dict[str, Any], str, nn.Module]] = []
        for name, kind in ({} if owner is None or kinds is None else kinds).items():
            path, _, last = name.rpartition(".")
            siblings = owner.get_submodule(path)._modules  # type: ignore[union-attr]
            part = siblings.get(last)
            if type(part) is not kind:
                self._parts = []
                break
            self._parts.append((siblings, last, part))
        # Those of a target network are buffers.
        kept = [slot for *_, part in self._parts for slot in (part._parameters, part._buffers)]
        self._slots = [(slot, name) for slot in kept for name in slot]
        self._places = self._now()

    def stays(self) -> bool:
        """Whether all are the parts and the tensors that they were, in the same memory; False if nothing is bound."""
        for siblings, name, part in self._parts:
            if siblings.get(name) is not part:
                return False
        return bool(self._slots) and self._now() == self._places

    def watched(self) -> bool:
        """Whether somebody looks at what goes through the parts, or changes it."""
        return any(part._forward_hooks or part._forward_pre_hooks for *_, part in self._parts)

    def readable(self) -> bool:
        """Whether kernels may read the parameters; False if nothing is bound."""
        tensors = [tensor for slot, name in self._slots if (tensor := slot[name]) is not None]
        return bool(tensors) and readable(*tensors)

    def _now(self) -> list[int]:
        # A tensor that is kept by a view of it keeps its memory, so that no other can come to lie there.
        return [0 if (tensor := slot.get(name)) is None else tensor.data_ptr() for slot, name in self._slots]


class GRUInference:
    """Runs one step of a :class:`~qmix_lightning.agents.gru.GRUAgent` without a graph, in room that is used again.

    Copies and pickles of it hold nothing: they would be of the parameters as they were.

    Args:
        agent: Whose parameters to run over; None for nobody.
    """

    def __init__(self, agent: Any = None) -> None:
        parts = {"input": AgentInput, "input.linear": nn.Linear, "gru": nn.GRU, "head": nn.Linear}
        self._bound, self._here = Bound(agent, parts), threading.local()
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
        """Whether the agent's parts and their parameters are where they were."""
        return self._bound.stays()

    def takes(self, observation: Tensor, last_action: Tensor, memory: Tensor) -> bool:
        """Whether kernels may stand in for torch's operations on these tensors and the parameters."""
        return (
            self._usable
            and not self._bound.watched()
            and may_compute()
            and readable(observation, last_action, memory)
            and last_action.dtype == torch.int64
            and observation.dtype == memory.dtype == torch.float32
            and observation.shape[:2] == last_action.shape == memory.shape[:2]
            and self._sizes[2] in (0, last_action.shape[1])
            and (observation.shape[2], memory.shape[2]) == (self._sizes[0], self._hidden_size)
        )

    def run(
        self, observation: Tensor, last_action: Tensor, memory: Tensor, action_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Values and new memory, as of ``step`` of the agent but for roundings.

        Args:
            observation: ``[B, N, O]``.
            last_action: ``[B, N]`` int64.
            memory: ``[B, N, H]``.
            action_mask: ``[B, N, A]`` bool. Who can only do action 0 is passed over: see :func:`gru_step`. None passes
                over nobody.

        Raises:
            IndexError: If there is no such last action.
        """
        seen = observation.numpy(), last_action.numpy(), memory.numpy()
        value = np.empty((*last_action.shape, len(self._weights[-1])), dtype=np.float32)
        after = np.empty(memory.shape, dtype=np.float32)
        may = action_mask.numpy() if _tells(action_mask, value.shape) else _EVERYBODY
        if gru_step(SGEMM, self._weights, seen, may, self._room(last_action.shape), (value, after)):
            raise IndexError(
                f"Expected last actions from {NO_ACTION}, none, to {self._sizes[1] - 1}, got {last_action.min()} to"
                f" {last_action.max()}."
            )
        return torch.from_numpy(value), torch.from_numpy(after)

    def stage(
        self, observation: Tensor, last_action: Tensor, memory: Tensor, action_mask: Tensor | None, value: Tensor,
        after: Tensor,
    ) -> Stage:  # fmt: skip
        """What :meth:`run` does with these tensors, for compiled loops, which returns 0 if there are such last actions.

        It is of the parameters where they are, and for no other thread than the next that calls it.

        Args:
            observation: As in :meth:`run`, as all up to ``action_mask``.
            last_action: As well.
            memory: As well.
            action_mask: As well.
            value: ``[B, N, A]``, which is written.
            after: ``[B, N, H]``, which is written.
        """
        seen, written = (observation.numpy(), last_action.numpy(), memory.numpy()), (value.numpy(), after.numpy())
        may = action_mask.numpy() if _tells(action_mask, value.shape) else _EVERYBODY
        return stage_of(gru_step, SGEMM, self._weights, seen, may, self._new_room(last_action.shape), written)

    def _room(self, shape: torch.Size) -> Any:
        """Where one thread computes: memory that comes and goes costs as much as the gates, page by page."""
        if getattr(self._here, "shape", None) != shape:
            self._here.shape, self._here.room = shape, self._new_room(shape)
        return self._here.room

    def _new_room(self, shape: torch.Size) -> Any:
        n_rows, size = min(shape.numel(), AT_ONCE), self._hidden_size
        sizes = (
            (self._sizes[1] + 1, size), (self._sizes[2], size), (n_rows, size), (2, n_rows, 3, size),
            (n_rows, self._sizes[0]), (n_rows, size), (n_rows, size), (n_rows, len(self._weights[-1])),
        )  # fmt: skip
        return np.empty(n_rows, dtype=np.int64), *(np.empty(size, dtype=np.float32) for size in sizes)


AT_ONCE: Final = 192
"""Rows that are worked on at once: so few that what their layers say stays in the caches beside all else."""

_EVERYBODY: Final = np.empty((0, 0, 0), dtype=np.bool_)


def _tells(action_mask: Tensor | None, shape: tuple[int, ...]) -> TypeGuard[Tensor]:
    """Whether kernels may read from a mask who need not be thought for."""
    if action_mask is None:
        return False
    return action_mask.shape == shape and action_mask.dtype == torch.bool and readable(action_mask)


@kernel_over(write_known, gru_memory, multiply)
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
        n = _find(may.reshape(-1, n_actions), begin, end, numbers)
        if not write_known(first[:, n_observed:], first_bias, seen[1], of_action, of_agent, numbers[:n], x):
            return 1
        before, after, values = memory, new, value
        if n < end - begin:
            _pick(observation, numbers[:n], begin, few_seen)
            _pick(memory, numbers[:n], begin, few_before)
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
            _spread(after, values, numbers[:n], begin, memory, new, value)
    return 0


@inlined
def _find(may: Any, begin: int, end: int, numbers: Any) -> int:
    """Write down, of some rows, those of who may do more than action 0, or all if nothing is said, and count them."""
    n = 0
    for i in range(begin, end):
        active = len(may) == 0
        for a in range(1, may.shape[1]):
            active |= i < len(may) and may[i, a]
        numbers[n] = i
        n += active
    return n


@inlined
def _pick(rows: Any, numbers: Any, begin: int, few: Any) -> None:
    for k in range(len(numbers)):
        _copy(rows[numbers[k] - begin], few[k])


@inlined
def _spread(few_after: Any, few_values: Any, numbers: Any, begin: int, memory: Any, after: Any, values: Any) -> None:
    """Write what came of few rows to where they belong, and for the others 0 and the memory that they had."""
    k = 0
    for i in range(len(after)):
        if k < len(numbers) and numbers[k] == begin + i:
            _copy(few_after[k], after[i])
            _copy(few_values[k], values[i])
            k += 1
        else:
            _copy(memory[i], after[i])
            for a in range(values.shape[1]):
                values[i, a] = np.float32(0)


@inlined
def _copy(row: Any, target: Any) -> None:
    for j in range(len(row)):
        target[j] = row[j]
