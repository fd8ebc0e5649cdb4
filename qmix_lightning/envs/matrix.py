"""Games small enough to know what every method must learn in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from qmix_lightning.envs.base import AbstractEnvironment
from qmix_lightning.spec import ACTION_MASK, OBSERVATION, STATE, TaskSpec

NONMONOTONIC = ((8.0, -12.0, -12.0), (-12.0, 0.0, 0.0), (-12.0, 0.0, 0.0))


class MatrixGame(AbstractEnvironment):
    """Two agents act once, not knowing what the other does, and earn ``payoff[u_0][u_1]``.

    In the default matrix the optimum 8 is hidden among punishments: no monotonic mixing of two utilities represents it,
    so VDN and QMIX, trained on uniform data, settle for 0.

    Args:
        payoff: ``[A, A]``, what each pair of actions earns.
        num_envs: Number B of games side by side.
        seed: Unused, since nothing is random; every environment takes one.
        name: How the registry calls the game.

    Raises:
        ValueError: If the matrix is not square or has fewer than 2 actions.

    Example:
        >>> game = MatrixGame(num_envs=2)
        >>> _ = game.reset()
        >>> game.step(torch.tensor([[0, 0], [0, 1]]))["reward"].flatten()
        tensor([  8., -12.])

    Source:
        Son et al., "QTRAN", 2019, table 1a.
    """

    def __init__(
        self,
        payoff: Sequence[Sequence[float]] = NONMONOTONIC,
        *,
        num_envs: int = 1,
        seed: int = 0,
        name: str = "matrix/nonmonotonic",
    ) -> None:
        self.payoff = torch.tensor(payoff, dtype=torch.float32)
        n_actions = len(self.payoff)
        if self.payoff.shape != (n_actions, n_actions) or n_actions < 2:
            raise ValueError(f"Expected a payoff of [A, A] with A >= 2, got {list(self.payoff.shape)}.")
        self.spec = TaskSpec(name, 2, n_actions, observation_size=1, state_size=1, episode_limit=1)
        self.num_envs = num_envs
        self._over = torch.ones(num_envs, 1, dtype=torch.bool)

    def reset(self, which: Tensor | None = None) -> TensorDict:
        """Start anew; all that there is to see is a constant."""
        return _view(torch.ones(self.num_envs, 1), 2, self.spec.n_actions)

    def step(self, action: Tensor) -> TensorDict:
        """Pay each game."""
        _refuse_illegal(action, self.spec.n_actions)
        reward = self.payoff[action[:, 0], action[:, 1]].unsqueeze(-1)
        return self.reset().update({"reward": reward, "done": self._over, "terminated": self._over})

    def seed(self, seed: int) -> None:
        """Do nothing: nothing is random."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing but which games these are: each is over with its step."""
        return {"task": self.spec.name, "num_envs": self.num_envs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Refuse the state of other games."""
        _refuse_other_games(state, self)


class TwoStepGame(AbstractEnvironment):
    """The first agent chooses one of two matrices, then both play it: ``7`` whatever they do, or ``[[0, 1], [1, 8]]``.

    The best return is 8. VDN cannot represent the second matrix, values it at 6.5 and takes the safe 7; QMIX takes 8.
    Observation and state are the one-hot of the state: 1, 2A after the first agent's action 0, 2B after its action 1.

    Args:
        num_envs: Number B of games side by side.
        seed: Unused, since nothing is random; every environment takes one.

    Example:
        >>> game = TwoStepGame()
        >>> _ = game.reset(), game.step(torch.tensor([[1, 0]]))
        >>> game.step(torch.tensor([[1, 1]]))["reward"].item()
        8.0

    Source:
        Rashid et al., "QMIX", 2018, section 5 and table 1.
    """

    def __init__(self, *, num_envs: int = 1, seed: int = 0) -> None:
        self.payoff = torch.tensor([[[0.0, 0.0], [0.0, 0.0]], [[7.0, 7.0], [7.0, 7.0]], [[0.0, 1.0], [1.0, 8.0]]])
        self.spec = TaskSpec("matrix/two_step", 2, 2, observation_size=3, state_size=3, episode_limit=2)
        self.num_envs = num_envs
        self._state = torch.zeros(num_envs, dtype=torch.int64)

    def reset(self, which: Tensor | None = None) -> TensorDict:
        """Start the chosen games anew."""
        self._state = torch.zeros_like(self._state) if which is None else self._state.masked_fill(which, 0)
        return self._seen()

    def step(self, action: Tensor) -> TensorDict:
        """Move on to a matrix, or pay its entry; the last state stays."""
        _refuse_illegal(action, self.spec.n_actions)
        first, second = action.unbind(1)
        reward = self.payoff[self._state, first, second].unsqueeze(-1)
        over = (self._state > 0).unsqueeze(-1)
        self._state = torch.where(self._state == 0, 1 + first, self._state)
        return self._seen().update({"reward": reward, "done": over, "terminated": over})

    def seed(self, seed: int) -> None:
        """Do nothing: nothing is random."""

    def state_dict(self) -> dict[str, Any]:
        """Where each game stands."""
        return {"task": self.spec.name, "num_envs": self.num_envs, "state": self._state.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where each game stood."""
        _refuse_other_games(state, self)
        self._state = state["state"].clone()

    def _seen(self) -> TensorDict:
        return _view(torch.eye(3)[self._state], 2, self.spec.n_actions)


def _view(state: Tensor, n_agents: int, n_actions: int) -> TensorDict:
    """Every agent sees the state, and may do anything."""
    seen = state[:, None].expand(-1, n_agents, -1)
    legal = torch.ones(len(state), n_agents, n_actions, dtype=torch.bool)
    return TensorDict({OBSERVATION: seen, ACTION_MASK: legal, STATE: state}, [len(state)])


def _refuse_illegal(action: Tensor, n_actions: int) -> None:
    illegal = (action < 0) | (action >= n_actions)
    if illegal.any():
        episode, agent = illegal.nonzero()[0].tolist()
        raise ValueError(
            f"Episode {episode}, agent {agent}: action {int(action[episode, agent])} is illegal, "
            f"expected one of 0 to {n_actions - 1}."
        )


def _refuse_other_games(state: dict[str, Any], env: AbstractEnvironment) -> None:
    if (came := (state["num_envs"], state["task"])) != (expected := (env.num_envs, env.spec.name)):
        raise ValueError(
            f"Expected the state of {expected[0]} games of {expected[1]}, got that of {came[0]} of {came[1]}. Make the"
            " environment as the one that was saved, or start new games with reset()."
        )
