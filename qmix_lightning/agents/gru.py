"""Agents with a recurrent memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from qmix_lightning.agents.base import AbstractAgent
from qmix_lightning.agents.inference import GRUInference
from qmix_lightning.agents.inputs import AgentInput, checked_is_init
from qmix_lightning.functional.packing import Packing
from qmix_lightning.functional.precision import in_its_precision
from qmix_lightning.functional.stages import Stage, is_own
from qmix_lightning.spec import TaskSpec


class GRUAgent(AbstractAgent):
    """Values actions by all that the agent has seen in this episode: Linear-ReLU-GRU-Linear.

    ``h_t = GRU(relu(W [o_t, u_{t-1}, i] + b), h_{t-1})``, ``Q_t = V h_t + c``, from ``h_{-1} = 0``.

    To compile it to one graph, set ``torch._dynamo.config.allow_rnn``: torch.compile breaks graphs at recurrent layers
    otherwise.

    Args:
        spec: The task's sizes.
        hidden_size: Width of the first layer and length H of the memory.
        last_action: Whether an agent is told what it did one step before.
        agent_id: Whether an agent is told which one it is.

    Example:
        >>> spec = TaskSpec("battle/3m", n_agents=3, n_actions=9, observation_size=30, state_size=48, episode_limit=60)
        >>> GRUAgent(spec)(torch.zeros(2, 61, 3, 30), torch.zeros(2, 61, 3, dtype=torch.int64)).shape
        torch.Size([2, 61, 3, 9])

    Source:
        Rashid et al., "QMIX", 2018, figure 2c; PyMARL's ``rnn_agent.py``.
    """

    def __init__(
        self, spec: TaskSpec, *, hidden_size: int = 64, last_action: bool = True, agent_id: bool = True
    ) -> None:
        super().__init__(spec)
        self.memory_size = hidden_size
        self.input = AgentInput(spec, hidden_size, last_action=last_action, agent_id=agent_id)
        self.gru = nn.GRU(hidden_size, hidden_size)
        self.head = nn.Linear(hidden_size, spec.n_actions)
        self._inference = GRUInference()

    def initial_memory(self, battles: int) -> Tensor:
        """Zeros ``[B, N, H]``; asked whenever a battle ends, so that the first of all parameters is not looked for."""
        return self.head.weight.new_zeros(battles, self.n_agents, self.memory_size)

    def step(self, observation: Tensor, last_action: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Value one step and remember it."""
        x = self.input(observation, last_action).relu()
        new = self._cell(x.flatten(0, 1), memory.flatten(0, 1)).view(memory.shape)
        return in_its_precision(self.head, new), new

    def infer(
        self, observation: Tensor, last_action: Tensor, memory: Tensor, action_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Value one step by compiled loops, where they may be used and a subclass has no step of its own."""
        if type(self).step is not GRUAgent.step:
            return self.step(observation, last_action, memory)
        if not self._inference.fits():
            self._inference = GRUInference(self)
        inference = self._inference
        if not inference.takes(observation, last_action, memory):
            return self.step(observation, last_action, memory)
        return inference.run(observation, last_action, memory, action_mask if self.no_op_is_final else None)

    def stage(
        self,
        observation: Tensor,
        last_action: Tensor,
        memory: Tensor,
        action_mask: Tensor,
        value: Tensor,
        after: Tensor,
    ) -> tuple[Stage, Callable[[], bool]] | None:
        """What :meth:`infer` does, as a stage of a compiled loop, under the same conditions."""
        if not self._inference.fits():
            self._inference = GRUInference(self)
        inference, passed_over = self._inference, self.no_op_is_final

        def stays() -> bool:
            return (
                type(self).step is GRUAgent.step
                and is_own(self, "infer", _INFER)
                and inference.fits()
                and inference.takes(observation, last_action, memory)
                and self.no_op_is_final == passed_over
            )

        if not stays():
            return None
        may = action_mask if passed_over else None
        return inference.stage(observation, last_action, memory, may, value, after), stays

    def forward(
        self,
        observation: Tensor,
        last_action: Tensor,
        is_init: Tensor | None = None,
        packing: Packing | None = None,
    ) -> Tensor:
        """Value whole windows, ``[B, T, N, A]``: by the sequence kernel, or step by step with ``is_init``.

        Raises:
            ValueError: If ``is_init`` is not ``[B, T, 1]`` bool.
        """
        if is_init is not None:
            is_init = checked_is_init(is_init, last_action)
        if packing is None:
            x = self.input(observation, last_action).relu().transpose(0, 1)
            memories = self._remember([x], None if is_init is None else [is_init.transpose(0, 1)])
            return in_its_precision(self.head, memories).view(*x.shape[:3], self.n_actions).transpose(0, 1)
        x = self.input(packing.take(observation), packing.take(last_action)).relu()
        marks = None if is_init is None else packing.split(packing.take(is_init))
        memories = self._remember(packing.split(x), marks)
        return packing.put(in_its_precision(self.head, memories).view(*x.shape[:2], self.n_actions))

    def _remember(self, stairs: list[Tensor], marks: list[Tensor] | None) -> Tensor:
        """Memories after each step, those of all stairs one below the other.

        Args:
            stairs: ``[t, b, N, H]`` each, the b battles being the first of those of the stair before.
            marks: ``[t, b, 1]`` bool each, before which steps everything is forgotten; None forgets nothing.
        """
        memory, memories = None, []
        for number, stair in enumerate(stairs):
            x = stair.flatten(1, 2)
            memory = None if memory is None else memory[:, : x.shape[1]]
            if marks is None:
                after, memory = self.gru(x, memory)
            else:
                after = self._unroll(x, marks[number].expand(*stair.shape[:3]).flatten(1), memory)
                memory = after[-1:]
            memories.append(after.flatten(0, 1))
        return torch.cat(memories) if len(memories) > 1 else memories[0]

    def _unroll(self, x: Tensor, forget: Tensor, memory: Tensor | None) -> Tensor:
        """Memories ``[T, M, H]`` after each step of ``x``, from ``[1, M, H]``, forgotten before steps ``[T, M]``."""
        # A loop of cells is as fast as the sequence kernel on a CPU, forward and backward, and faster than the kernel
        # on each run of steps without a mark or on a packed sequence; on a GPU it need not wait to learn of the marks.
        now, memories = torch.zeros_like(x[0]) if memory is None else memory[0], []
        for step, forgotten in zip(x, forget.unsqueeze(-1), strict=True):
            now = self._cell(step, torch.where(forgotten, 0, now))
            memories.append(now)
        return torch.stack(memories)

    def _cell(self, x: Tensor, memory: Tensor) -> Tensor:
        # The cell alone costs a third less than the sequence kernel on a sequence of one.
        # Looked up one by one: all_weights takes half as long as the cell of 16 battles.
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        return torch.gru_cell(x, memory, *[getattr(self.gru, name) for name in names])


_INFER = GRUAgent.infer
