"""Agents that do what they value most, but for an ε of the time."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy

import torch
from torch import Generator, Tensor, nn

from qmix_lightning.agents.base import AbstractAgent
from qmix_lightning.exploration.epsilon_greedy import epsilon_greedy
from qmix_lightning.exploration.policy_stage import PolicyStage
from qmix_lightning.functional.compiling import readable
from qmix_lightning.functional.stages import is_own
from qmix_lightning.functional.values import legal_argmax


class EpsilonGreedyPolicy:
    """A :class:`~qmix_lightning.spec.Policy` of agents that share a network.

    Args:
        agent: Whose values exploring agents follow.
        greedy_agent: Whose values greedy agents follow.
        epsilon: Probability ε of a random action, after so many environment steps; of a tensor, a tensor.
        autocast: What is opened around every call of the network, for mixed precision.
        schedule: Tells what numbers ε follows from beside the environment steps, which may change.

    Example:
        >>> from qmix_lightning.agents.mlp import MLPAgent
        >>> from qmix_lightning.spec import TaskSpec
        >>> agent = MLPAgent(TaskSpec("some/task", 2, 3, observation_size=5, state_size=7, episode_limit=9))
        >>> policy = EpsilonGreedyPolicy(agent, agent, lambda env_steps: 0.05)
        >>> legal, none = torch.tensor([[[True, False, False]] * 2]), torch.full((1, 2), -1)
        >>> policy.act(torch.zeros(1, 2, 5), legal, none, policy.initial_memory(1))[0]
        tensor([[0, 0]])
    """

    def __init__(
        self,
        agent: AbstractAgent,
        greedy_agent: AbstractAgent,
        epsilon: Callable[[int | Tensor], float | Tensor],
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
        schedule: Callable[[], tuple[Hashable, ...]] = tuple,
    ) -> None:
        self.agent, self.greedy_agent, self.epsilon, self.autocast = agent, greedy_agent, epsilon, autocast
        self.schedule = schedule

    def initial_memory(self, battles: int) -> Tensor:
        """Memory of agents that have not seen anything yet."""
        return self.agent.initial_memory(battles)

    def act(
        self,
        observation: Tensor,
        action_mask: Tensor,
        last_action: Tensor,
        memory: Tensor,
        *,
        env_steps: int | Tensor | None = None,
        generator: Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Choose one legal action for every agent."""
        agent = self.greedy_agent if env_steps is None else self.agent
        with self.autocast():
            # In true half or double precision memories are what the agents are, and observations are not.
            if observation.dtype != memory.dtype:
                observation = observation.to(memory.dtype)
            value, following = agent.infer(observation, last_action, memory, action_mask)
        memory = following if following.dtype == memory.dtype else following.to(memory.dtype)
        if env_steps is None:
            return legal_argmax(value, action_mask), memory
        return epsilon_greedy(value, action_mask, self.epsilon(env_steps), generator), memory

    def stage(
        self,
        observation: Tensor,
        action_mask: Tensor,
        last_action: Tensor,
        memory: Tensor,
        *,
        explore: bool,
        while_true: Callable[[], bool] = lambda: True,
    ) -> PolicyStage | None:
        """What :meth:`act` does with tensors that stay where they are; see :class:`~qmix_lightning.spec.Staged`.

        Args:
            observation: As in :meth:`act`, as are the next three.
            action_mask: As well.
            last_action: As well.
            memory: As well.
            explore: Whether ``act`` is told the environment steps.
            while_true: What the stage depends on beside this policy.
        """
        agent = self.agent if explore else self.greedy_agent

        def same() -> bool:
            now = self.agent if explore else self.greedy_agent
            return now is agent and is_own(self, "act", _ACT) and self._in_full_precision() and while_true()

        fits = action_mask.shape[-1] == agent.n_actions and readable(action_mask, last_action, memory)
        if not (fits and same() and is_own(agent, "stage")):
            return None
        value, after = torch.empty(action_mask.shape, dtype=torch.float32), torch.empty_like(memory)
        found = agent.stage(observation, last_action, memory, action_mask, value, after)
        if found is None:
            return None
        stage, agent_stays = found
        tensors = value, after, action_mask, last_action, memory
        # What tells ε may be replaced.
        return PolicyStage(stage, lambda: same() and agent_stays(), lambda n: self.epsilon(n), *tensors)

    def _in_full_precision(self) -> bool:
        # Of the default dtype are the draws of exploration.
        return type(self.autocast()) is nullcontext and torch.get_default_dtype() is torch.float32

    def fixed(self) -> tuple[Hashable, ...]:
        """What a graph of :meth:`act` depends on; see :class:`~qmix_lightning.spec.Replayable`."""
        context, agents = self.autocast(), (self.agent, self.greedy_agent)
        parts = [part for agent in agents for part in agent.modules()]
        tensors = [tensor for agent in agents for tensor in (*agent.parameters(), *agent.buffers())]
        return (
            (type(context), getattr(context, "fast_dtype", None)),
            self.schedule(),
            *((part, *_plain_attributes(part).items()) for part in parts),
            # A parameter that is moved stays the same tensor in another place.
            *((id(tensor), tensor.data_ptr(), tensor.dtype) for tensor in tensors),
        )

    def snapshot(self) -> EpsilonGreedyPolicy:
        """Copy of the agents as they are now."""
        agents = deepcopy(self.agent), deepcopy(self.greedy_agent)
        return EpsilonGreedyPolicy(*agents, self.epsilon, self.autocast, self.schedule)

    @torch.no_grad()
    def follow(self, policy: EpsilonGreedyPolicy) -> None:
        """Become what another policy of the same agents is now."""
        for ours, theirs in ((self.agent, policy.agent), (self.greedy_agent, policy.greedy_agent)):
            ours_all, theirs_all = ([*agent.parameters(), *agent.buffers()] for agent in (ours, theirs))
            if ours_all:
                torch._foreach_copy_(ours_all, theirs_all)
            for part, model in zip(ours.modules(), theirs.modules(), strict=True):
                part.__dict__.update(_plain_attributes(model))


_ACT = EpsilonGreedyPolicy.act


def _plain_attributes(part: nn.Module) -> dict[str, Hashable]:
    """Numbers and words of a module, such as a temperature, and the mode that it is in."""
    return {name: value for name, value in vars(part).items() if isinstance(value, bool | int | float | str)}
