"""What an agent knows beside its observation: what it did last, and which agent it is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own name for it)

from qmix_lightning.functional.compiling import kernel
from qmix_lightning.spec import NO_ACTION, TaskSpec


def previous_action(action: Tensor, is_init: Tensor | None = None) -> Tensor:
    """Shift the actions of trajectories one step later: ``u_{t-1}``, which is ``NO_ACTION`` at the first step.

    Args:
        action: ``[B, T, N]`` int64, from the first step of a trajectory.
        is_init: ``[B, T, 1]`` bool, True where another trajectory begins; None if there is one in each window.

    Returns:
        ``[B, T, N]`` int64, what each agent did one step before.

    Raises:
        ValueError: If ``is_init`` is not ``[B, T, 1]`` bool.

    Example:
        >>> previous_action(torch.tensor([[[4], [5], [6]]]))[0, :, 0]
        tensor([-1,  4,  5])
        >>> previous_action(torch.tensor([[[4], [5], [6]]]), torch.tensor([[[True], [False], [True]]]))[0, :, 0]
        tensor([-1,  4, -1])
    """
    previous = F.pad(action[:, :-1], (0, 0, 1, 0), value=NO_ACTION)
    if is_init is None:
        return previous
    return torch.where(checked_is_init(is_init, action), NO_ACTION, previous)


def checked_is_init(is_init: Tensor, action: Tensor) -> Tensor:
    """``is_init``, if it marks steps of the windows that the actions are from.

    Args:
        is_init: Expected to be ``[B, T, 1]`` bool.
        action: ``[B, T, N]``.

    Raises:
        ValueError: If it is anything else, which might broadcast unnoticed.
    """
    expected = (*action.shape[:2], 1)
    if is_init.shape != expected or is_init.dtype != torch.bool:
        raise ValueError(
            f"Expected is_init to be bool of shape {expected}, one mark for all agents of a step, got {is_init.dtype}"
            f" {tuple(is_init.shape)}."
        )
    return is_init


class AgentInput(nn.Module):
    """First layer of an agent: ``W [o, onehot(u), onehot(i)] + b`` for observation o, last action u and agent i.

    A matrix times a one-hot is a column of the matrix, so no one-hot is ever built: the columns of action and agent and
    the bias are added up once into a table with a row for each pair (i, u), of which each agent takes one. The one-hot
    of ``NO_ACTION`` is zero. Measured against the concatenation on one core, this takes 2/3 of the time forward, and
    forward and backward as long at 3 agents with O = 30, or 3/4 of it at 8 agents with O = 80.

    Args:
        spec: The task's sizes.
        hidden_size: Length H of what comes out.
        last_action: Whether the agent is told what it did one step before.
        agent_id: Whether the agent is told which one it is.

    Example:
        >>> spec = TaskSpec("battle/3m", n_agents=3, n_actions=9, observation_size=30, state_size=48, episode_limit=60)
        >>> layer = AgentInput(spec, 64)
        >>> layer(torch.zeros(2, 3, 30), torch.full((2, 3), NO_ACTION)).shape
        torch.Size([2, 3, 64])

    Source:
        The input of PyMARL's agents (Samvelyan et al., 2019; ``basic_controller.py``), with the columns of
        ``linear.weight`` in its order: observation, last action, agent.
    """

    zeroth_row: Tensor

    def __init__(self, spec: TaskSpec, hidden_size: int, *, last_action: bool = True, agent_id: bool = True) -> None:
        super().__init__()
        self.last_action, self.agent_id = last_action, agent_id
        self.sizes = [spec.observation_size, spec.n_actions * last_action, spec.n_agents * agent_id]
        self.linear = nn.Linear(sum(self.sizes), hidden_size)
        # Each agent's row of action 0; the row before it is that of NO_ACTION.
        zeroth_row = torch.arange(spec.n_agents) * agent_id * (self.sizes[1] + 1) - NO_ACTION * last_action
        self.register_buffer("zeroth_row", zeroth_row, persistent=False)

    def forward(self, observation: Tensor, last_action: Tensor) -> Tensor:
        """Combine what the agents see and know.

        Args:
            observation: ``[..., N, O]``.
            last_action: ``[..., N]`` int64 in ``NO_ACTION, 0, ..., A - 1``.

        Returns:
            ``[..., N, H]``.
        """
        of_observation, of_action, of_agent = torch.split_with_sizes(self.linear.weight.t(), self.sizes)
        rows = F.pad(of_action, (0, 0, 1, 0)) + self.linear.bias
        table = (of_agent.unsqueeze(1) + rows).flatten(0, 1) if self.agent_id else rows
        row = self.zeroth_row + last_action if self.last_action else self.zeroth_row.expand_as(last_action)
        known = F.embedding(row, table)
        # addmm instead of a sum: one pass less over the largest tensor.
        return torch.addmm(known.flatten(0, -2), observation.flatten(0, -2), of_observation).view(known.shape)


@kernel
def write_known(
    weight: Any, bias: Any, last_action: Any, of_action: Any, of_agent: Any, which: Any, known: Any
) -> bool:
    """Write what the layer makes of last action, agent and bias, for few rows at a fraction of the price of its parts.

    Args:
        weight: ``[H, A + N]``, the columns of the actions and of the agents, of either of which there may be none.
        bias: ``[H]``.
        last_action: ``[B, N]`` int64.
        of_action: ``[A + 1, H]``, room for the columns of the actions.
        of_agent: ``[N, H]``, room for those of the agents.
        which: ``[M]`` int64, the agents of whom to write, counted through all battles.
        known: ``[M, H]`` or more rows, the first of which are written.

    Returns:
        Whether their actions lie in ``NO_ACTION, 0, ..., A - 1``; if not, writing ends at the first that does not.
    """
    n_agents, hidden_size = last_action.shape[1], known.shape[1]
    n_actions, n_named = len(of_action) - 1, len(of_agent)
    for j in range(hidden_size):
        of_action[0, j] = bias[j]
        for action in range(n_actions):
            of_action[action + 1, j] = weight[j, action] + bias[j]
        for agent in range(n_named):
            of_agent[agent, j] = weight[j, n_actions + agent]
    for k in range(len(which)):
        b, agent = divmod(which[k], n_agents)
        row = last_action[b, agent] - NO_ACTION if n_actions > 0 else 0
        if not 0 <= row <= n_actions:
            return False
        for j in range(hidden_size):
            known[k, j] = of_action[row, j]
        if n_named > 0:
            for j in range(hidden_size):
                known[k, j] += of_agent[agent, j]
    return True
