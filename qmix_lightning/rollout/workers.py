"""Games that play in processes of their own, while nobody waits for the slowest."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, replace
from typing import Any

import torch
from tensordict import TensorDict
from torch import Generator, Tensor

from qmix_lightning.envs.games.base import GameFactory
from qmix_lightning.envs.games.board import first_illegal
from qmix_lightning.envs.games.seeds import episode_seed
from qmix_lightning.rollout.base import AbstractRollout, ordinary_tensors
from qmix_lightning.rollout.diary import Diary
from qmix_lightning.rollout.processes.patience import Patience
from qmix_lightning.rollout.processes.pool import GamePool
from qmix_lightning.spec import NO_ACTION, Policy


@dataclass
class _Episode:
    """What a game plays: an episode of training, or of an evaluation the one with this number."""

    evaluated: int | None = None
    shown: bool = False
    """Whether it has begun, and waits for an action."""


class WorkerRollout(AbstractRollout):
    """Plays B games, each in a process of its own: one call of the policy decides for all that wait for an action.

    A :meth:`step` lasts until the games have played B steps together, some of them more than others: a slow game, or
    one that is being made anew, holds up nobody. Games go on in their processes until the next call. The order in which
    they are heard depends on their speed, and so the same seed does not train the same way twice.

    A game that crashes, hangs or dies costs its own episode: it is neither replayed nor counted as won or lost. The
    steps that were played of it count as environment steps, and :attr:`restarts` tells why games were made anew.

    An evaluation is played by the same games: each plays its episode of training to its end first, and what it earns is
    handed out by the next :meth:`step`.

    Args:
        factory: Makes a game from a seed, in the other process: a function or class that can be imported there.
        num_games: Number B of games.
        seed: Of the exploration.
        env_seed: Of the games; None takes ``seed``.
        patience: What games are granted.
        replicas: How many rollouts of the same size, this one included, advance together, each on its own rank; the
            environment steps of all are counted, and the episodes of an evaluation are shared.
        rank: Which of them this is.

    Attributes:
        num_games: Number B of games.

    Raises:
        ValueError: If the game cannot be made; it says why.
        RuntimeError: From :meth:`step` and :meth:`play`, once no game is left that has not failed too often.

    Example:
        >>> WorkerRollout(dict, num_games=1)
        Traceback (most recent call last):
        ...
        ValueError: The first game could not be made: TypeError, 'int' object is not iterable...
    """

    plays_both = True

    def __init__(
        self,
        factory: GameFactory,
        num_games: int,
        *,
        seed: int = 0,
        env_seed: int | None = None,
        patience: Patience | None = None,
        replicas: int = 1,
        rank: int = 0,
    ) -> None:
        env_seed = seed if env_seed is None else env_seed
        self._pool = GamePool(factory, num_games, episode_seed(env_seed, rank), patience)
        card = self._pool.card
        self.spec, self.info_keys, self._versions = card.spec, card.info_keys, card.versions
        self.num_games, self.seed, self._env_seed = num_games, seed, env_seed
        self._replicas, self._rank = replicas, rank
        self.env_steps = self.episodes = 0
        self._diary = Diary(self._pool.board, card.spec)
        self._playing: list[_Episode | None] = [None] * num_games
        self._gone: set[int] = set()
        self._play_seed = 0
        self._begun = 0
        self._ahead = 0
        self._ended: list[TensorDict] = []
        self._wanted: deque[int] = deque()
        self._evaluated: dict[int, TensorDict] = {}
        self._last_action = torch.full((num_games, card.spec.n_agents), NO_ACTION)
        self._memory: Tensor | None = None
        self._generator: Generator | None = None
        self._generator_state: Tensor | None = None
        board = self._pool.board
        self._observation, self._action_mask = torch.from_numpy(board.observation), torch.from_numpy(board.action_mask)

    @property
    def versions(self) -> dict[str, str]:
        """What the results may depend on, as the games tell: builds, commits, checksums of maps."""
        return self._versions

    @property
    def restarts(self) -> Counter[str]:
        """How often a game was made anew, by reason, e.g. ``"crash in step"`` or ``"recycled"``."""
        return self._pool.restarts

    @property
    def pids(self) -> list[int | None]:
        """The processes of the games; None where there is none at the moment."""
        return self._pool.pids

    def step(self, policy: Policy, *, explore: bool, times: int = 1) -> TensorDict | None:
        """Play so many times as many steps as there are games, with as many calls of the policy as that takes."""
        with ordinary_tensors():
            self._settle(policy)
            self._start_idle()
            for _ in range(times):
                while self._ahead < self.num_games:
                    self._act(policy, self._waiting(evaluated=False), self.env_steps if explore else None)
                    self._listen()
                self._ahead -= self.num_games
                self.env_steps += self.num_games * self._replicas
            ended, self._ended = self._ended, []
            self.episodes += len(ended)
            return torch.cat(ended) if ended else None

    def play(self, policy: Policy, episodes: int, *, seed: int) -> TensorDict:
        """Play fresh greedy episodes, each by whichever game is free.

        Episode n is begun with a seed of its own, and is among those of rank ``n mod replicas``. One that was spoilt is
        played again, so that there are always as many as were asked for.

        Raises:
            ValueError: If no episode is asked for.
        """
        if episodes < 1:
            raise ValueError(f"WorkerRollout.play needs episodes >= 1, got {episodes}.")
        with ordinary_tensors():
            self._settle(policy)
            self._wanted, self._evaluated = deque(range(self._rank, episodes, self._replicas)), {}
            total, self._play_seed = len(self._wanted), seed
            while len(self._evaluated) < total:
                self._take_up()
                self._act(policy, self._waiting(evaluated=True), None)
                self._act(policy, self._waiting(evaluated=False, begun=True), self.env_steps)
                self._listen()
            played, self._evaluated = self._evaluated, {}
            return torch.cat([played[number] for number in sorted(played)]) if played else self._diary.nothing()

    def start_anew(self, env_seed: int, seed: int) -> None:
        """Have the games that start from now on, and exploration, depend on these seeds."""
        self._env_seed, self.seed = env_seed, seed

    def state_dict(self) -> dict[str, Any]:
        """Return counters and exploration; the games under way are not part of it."""
        return {
            "env_steps": self.env_steps,
            "episodes": self.episodes,
            "seed": self.seed,
            "generator": self._generator_state if self._generator is None else self._generator.get_state(),
            "num_envs": self.num_games,
            "exact": False,
        }

    def load_state_dict(self, state: dict[str, Any]) -> bool:
        """Count and explore on from a :meth:`state_dict`, with new games."""
        self.env_steps, self.episodes = state["env_steps"], state["episodes"]
        self.seed, self._generator, self._generator_state = state["seed"], None, state["generator"]
        return False

    def close(self) -> None:
        """End all processes."""
        self._pool.close()

    def _settle(self, policy: Policy) -> None:
        """Make memories and exploration on the policy's device, which is known from the first call on."""
        self._fresh = policy.initial_memory(1)
        if self._memory is None:
            self._memory = self._fresh.repeat(self.num_games, 1, 1)
            self._last_action = self._last_action.to(self._memory.device)
        if self._generator is None:
            self._generator = Generator(self._memory.device)
            fresh, kept = self._generator.manual_seed(self.seed).get_state(), self._generator_state
            if kept is not None and kept.shape == fresh.shape:
                self._generator.set_state(kept.cpu())
            elif kept is not None:  # Of another kind of device, which cannot be taken up.
                self._generator.manual_seed(self.seed + self.env_steps)

    def _start_idle(self) -> None:
        for game, playing in enumerate(self._playing):
            if playing is None:
                self._begin(game)

    def _take_up(self) -> None:
        """Give what is left of an evaluation to games without an episode, or with one that has not begun in earnest."""
        for game, playing in enumerate(self._playing):
            fresh = playing is not None and playing.evaluated is None and playing.shown and not self._diary.length[game]
            if self._wanted and (playing is None or fresh):
                self._begin(game)

    def _begin(self, game: int) -> None:
        """Have a game begin the next episode of an evaluation, if there is one, or else of training."""
        if game in self._gone:
            return
        if self._wanted:
            number = self._wanted.popleft()
            self._playing[game] = _Episode(number)
            self._pool.reset(game, episode_seed(self._play_seed, number))
        else:
            self._playing[game] = _Episode()
            self._pool.reset(game, episode_seed(self._env_seed, self._rank, self._begun))
            self._begun += 1

    def _waiting(self, *, evaluated: bool, begun: bool = False) -> list[int]:
        """Games that wait for an action, of an evaluation or of training, the latter perhaps only if it has begun."""
        return [
            game
            for game, playing in enumerate(self._playing)
            if playing is not None
            and playing.shown
            and (playing.evaluated is not None) == evaluated
            and (not begun or self._diary.length[game])
        ]

    def _act(self, policy: Policy, games: list[int], env_steps: int | None) -> None:
        if not games:
            return
        assert self._memory is not None, "Whoever plays has settled."
        which, there = torch.tensor(games), self._memory.device
        here = which.to(there)
        action, memory = policy.act(
            self._observation[which].to(there),
            self._action_mask[which].to(there),
            self._last_action[here],
            self._memory[here],
            env_steps=env_steps,
            generator=self._generator,
        )
        if self._memory.dtype != memory.dtype:  # In mixed precision one that was computed can have another.
            self._memory = self._memory.to(memory.dtype)
        self._memory[here], self._last_action[here] = memory, action
        board, actions = self._pool.board, action.cpu().numpy()
        if (illegal := first_illegal(actions, board.action_mask[games])) is not None:
            place, agent, wrong, legal = illegal
            raise ValueError(
                f"Agent {agent} of game {games[place]} cannot take action {wrong}; legal are {legal}. Choose by"
                " ('agents', 'action_mask')."
            )
        board.action[games] = actions
        for game in games:
            self._playing[game] = replace(self._playing[game], shown=False)  # type: ignore[type-var]
        self._pool.step(games)

    def _listen(self) -> None:
        """Wait for the games, and write down what came of their steps."""
        news = self._pool.wait()
        began = [game for game, kind in news if kind == "began"]
        stepped = [game for game, kind in news if kind == "stepped"]
        if began:
            self._diary.begin(began)
            self._forget(began)
        if stepped:
            self._diary.record(stepped)
        for game in began + stepped:
            self._playing[game].shown = True  # type: ignore[union-attr]
        for game in stepped:
            playing = self._playing[game]
            assert playing is not None, "It was told to play."
            self._ahead += playing.evaluated is None
            if self._pool.board.done[game, 0]:
                self._pool.succeeded(game)
                self._hand_out(game, playing)
                self._playing[game] = None
                self._begin(game)
        for game, kind in news:
            if kind in ("lost", "gone"):
                self._give_back(game, kind == "gone")

    def _forget(self, games: list[int]) -> None:
        assert self._memory is not None, "Whoever plays has settled."
        self._memory[games] = self._fresh.to(self._memory)
        self._last_action[games] = NO_ACTION

    def _hand_out(self, game: int, playing: _Episode) -> None:
        episode = self._diary.episode(game)
        if playing.evaluated is None:
            self._ended.append(episode)
        else:
            self._evaluated[playing.evaluated] = episode

    def _give_back(self, game: int, gone: bool) -> None:
        """Begin another episode in the place of a spoilt one, which is forgotten; an evaluation needs the same."""
        playing, self._playing[game] = self._playing[game], None
        if gone:
            self._gone.add(game)
        if playing is not None and playing.evaluated is not None:
            self._wanted.appendleft(playing.evaluated)
        self._begin(game)
