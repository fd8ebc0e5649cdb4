"""What agents remember and did last, where some battles begin anew."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from qmix_lightning.functional.compiling import kernel, readable
from qmix_lightning.spec import NO_ACTION


def begin_anew(memory: Tensor, last_action: Tensor, which: Tensor, fresh: Tensor) -> tuple[Tensor, Tensor]:
    """Let agents forget what they did in battles that ended.

    Memory and actions change out of place, because both came from the policy and may be its own.

    Args:
        memory: ``[B, N, H]``.
        last_action: ``[B, N]`` int64.
        which: ``[k]`` int64 on the CPU, the battles that begin anew.
        fresh: ``[1, N, H]``, the memory of agents that have not seen anything yet; it may be of another dtype.

    Returns:
        Both as they are before the next step.

    Example:
        >>> import torch
        >>> ones, done = torch.ones(2, 1, 3), torch.zeros(2, 1, dtype=torch.int64)
        >>> memory, last_action = begin_anew(ones, done, torch.tensor([1]), torch.zeros(1, 1, 3))
        >>> memory[:, 0], last_action[:, 0]
        (tensor([[1., 1., 1.],
                [0., 0., 0.]]), tensor([ 0, -1]))
    """
    if readable(memory, last_action, fresh) and memory.dtype == fresh.dtype:
        memory, last_action = memory.clone(), last_action.clone()
        forget(memory.numpy(), last_action.numpy(), which.numpy(), fresh.numpy())
        return memory, last_action
    where = which.to(memory.device)
    rows = fresh.to(memory.dtype).expand(len(which), *fresh.shape[1:])
    return memory.index_copy(0, where, rows), last_action.index_fill(0, where, NO_ACTION)


@kernel
def forget(memory: Any, last_action: Any, which: Any, fresh: Any) -> None:
    """Write over memory and last action of some battles; the arrays of :func:`begin_anew`, changed in place."""
    for b in which:
        for agent in range(memory.shape[1]):
            last_action[b, agent] = NO_ACTION
            for j in range(memory.shape[2]):
                memory[b, agent, j] = fresh[0, agent, j]
