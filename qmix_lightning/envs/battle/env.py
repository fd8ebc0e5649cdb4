"""The embedded battle simulator as an environment."""

from __future__ import annotations

import operator
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict
from torch import Tensor

from qmix_lightning.envs.base import AbstractEnvironment
from qmix_lightning.envs.battle.engine import LOOPS_PER_STEP, advance, first_illegal, restart, trace
from qmix_lightning.envs.battle.hindsight import look_back
from qmix_lightning.envs.battle.observation import empty_views, n_actions, observation_size, show, state_size
from qmix_lightning.envs.battle.saving import as_tensor, layout, refuse_other_battles
from qmix_lightning.envs.battle.scenario import Pathing, load_scenario
from qmix_lightning.envs.battle.spawning import EnemyOrder, lineup_of
from qmix_lightning.envs.battle.state import CLOCK, UNIT, seen, start_keys, types_of
from qmix_lightning.envs.battle.terrain import ground_of
from qmix_lightning.spec import UNITS, TaskSpec


class BattleEnvironment(AbstractEnvironment):
    """SMAC battles without StarCraft: the same observations, state, masks and rewards, from an embedded simulator.

    The battles in place ``first + b`` of a seed are the same, one after the other, whatever the batch and the number of
    threads.

    Args:
        map_name: One of SMAC's maps, e.g. ``"3m"``.
        num_envs: Number of battles B played side by side.
        seed: Seed of the battles.
        first: Number of this batch's first battle, so that several batches can share a seed.
        threads: Threads over which the battles are spread.
        spawn_jitter: Cells by which units are displaced at most at the start, along each axis.
        enemy_order: How the enemies are numbered: ``"random"`` in every battle, by ``"creation"``, or ``"sorted"`` by
            place.
        pathing: Which reading of the map archive says where units can walk, ``"inner"`` or ``"outer"`` (one row wider).

    Raises:
        ValueError: If there is no such map, or ``num_envs``, ``threads``, ``spawn_jitter``, ``enemy_order`` or
            ``pathing`` is out of range.

    Example:
        >>> env = BattleEnvironment("3m", num_envs=2, seed=1)
        >>> battles = env.reset()
        >>> battles["agents", "observation"].shape
        torch.Size([2, 3, 30])
        >>> stop = torch.ones(2, 3, dtype=torch.int64)
        >>> env.step(stop)["reward"].tolist()
        [[0.0], [0.0]]
    """

    info_keys = ("battle_won", "dead_allies", "dead_enemies")
    snapshot_keys = (UNITS,)

    def __init__(
        self,
        map_name: str,
        num_envs: int = 1,
        seed: int = 0,
        *,
        first: int = 0,
        threads: int = 1,
        spawn_jitter: float = 0.25,
        enemy_order: EnemyOrder = "random",
        pathing: Pathing = "inner",
    ) -> None:
        for option, value, least in (
            ("num_envs", num_envs, 1),
            ("threads", threads, 1),
            ("spawn_jitter", spawn_jitter, 0),
        ):
            if value < least:
                raise ValueError(f"{option} must be at least {least}, got {value}.")
        if enemy_order not in ("random", "creation", "sorted"):
            raise ValueError(f"Unknown enemy_order {enemy_order!r}. Expected 'random', 'creation' or 'sorted'.")
        scenario = load_scenario(map_name, pathing)
        self.spec = TaskSpec(
            name=f"battle/{map_name}",
            n_agents=scenario.n_agents,
            n_actions=n_actions(scenario),
            observation_size=observation_size(scenario),
            state_size=state_size(scenario),
            episode_limit=scenario.episode_limit,
        )
        self.num_envs, self._first, self.scenario = num_envs, first, scenario
        self._types, self._ground = types_of(scenario), ground_of(scenario)
        self._lineup = lineup_of(scenario, spawn_jitter, enemy_order)
        self._battles = np.zeros((num_envs, scenario.n_agents + scenario.n_enemies), dtype=UNIT)
        self._clocks = np.zeros(num_envs, dtype=CLOCK)
        self._views = empty_views(scenario, num_envs)
        self._pool, self._threads = ThreadPoolExecutor(threads) if threads > 1 else None, threads
        self._all = np.ones(num_envs, dtype=np.bool_)
        self._scene = TensorDict(
            {
                "agents": {
                    "observation": torch.from_numpy(self._views.observation),
                    "action_mask": torch.from_numpy(self._views.action_mask),
                },
                "state": torch.from_numpy(self._views.state),
                UNITS: torch.from_numpy(seen(self._battles)),
            },
            batch_size=[num_envs],
        )
        result = {name: torch.from_numpy(getattr(self._views, name)) for name in ("reward", "done", "terminated")}
        info = {name: torch.from_numpy(getattr(self._views, name)) for name in self.info_keys}
        self._outcome = self._scene.copy().update({**result, "info": info})
        self._made_as: dict[str, str | int | float] = {
            "task": self.spec.name, "num_envs": num_envs, "spawn_jitter": spawn_jitter, "enemy_order": enemy_order,
            "pathing": pathing, "unit_layout": layout(UNIT), "clock_layout": layout(CLOCK),
        }  # fmt: skip
        # Observation and state, which are nine tenths of it all, follow from the rest.
        views = {name: view for name, view in self._views._asdict().items() if name not in ("observation", "state")}
        memory = {"battles": self._battles, "clocks": self._clocks, **views}
        self._memory = {name: as_tensor(array) for name, array in memory.items()}
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Make the battles that start at the next full reset, and after, depend on this seed alone."""
        start_keys(self._clocks, np.uint64(operator.index(seed) % 2**64), self._first)

    def reset(self, which: Tensor | None = None) -> TensorDict:
        """Start new battles; see :class:`AbstractEnvironment`."""
        chosen = self._all if which is None else np.ascontiguousarray(which.numpy())
        if chosen.shape != self._all.shape or chosen.dtype != np.bool_:
            raise ValueError(f"Expected which of bool {[self.num_envs]}, got {chosen.dtype} {list(chosen.shape)}.")
        self._spread(
            lambda first, end: restart(
                self._battles, self._types, self._clocks, self._ground, self._lineup, self._views, chosen, first, end
            ),
            self.num_envs,
        )
        return self._scene

    def step(self, action: Tensor) -> TensorDict:
        """Play 8 game loops, half a second of the catalogue's time; see :class:`AbstractEnvironment`."""
        actions = np.ascontiguousarray(action.numpy())  # another memory layout would be compiled anew
        if actions.shape != self._views.last_action.shape or actions.dtype != np.int64:
            expected = f"int64 {list(self._views.last_action.shape)}"
            raise ValueError(f"Expected actions of {expected}, got {actions.dtype} {list(actions.shape)}.")
        self._refuse_illegal(actions)
        limit = self.spec.episode_limit
        self._spread(
            lambda first, end: advance(
                self._battles, self._types, self._clocks, self._ground, self._views, actions, limit, first, end
            ),
            self.num_envs,
        )
        return self._outcome

    def trace(self, action: Tensor) -> NDArray[Any]:
        """Tell how the units would fare in a step, loop by loop, without playing it.

        Args:
            action: ``[B, N]`` int64, legal for each agent.

        Returns:
            ``[8, B, U]`` :data:`~qmix_lightning.envs.battle.state.UNIT` after each game loop; the last is where
            :meth:`step` will lead.
        """
        loops = np.zeros((LOOPS_PER_STEP, *self._battles.shape), dtype=UNIT)
        trace(self._battles.copy(), self._types, self._clocks.copy(), self._ground, action.numpy(), loops)
        return loops

    @property
    def units(self) -> NDArray[Any]:
        """The units as they are, ``[B, U]`` :data:`~qmix_lightning.envs.battle.state.UNIT`; not to be written to."""
        view = self._battles.view()
        view.flags.writeable = False
        return view

    def state_dict(self) -> dict[str, Any]:
        """Copy the battles under way, their clocks and random numbers, and what the last step brought.

        About 64 bytes a unit, and ``[B, ...]`` all of it.
        """
        return {**self._made_as, **{name: tensor.clone() for name, tensor in self._memory.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`state_dict`, whatever the seed and ``first`` here; see :class:`AbstractEnvironment`."""
        refuse_other_battles(state, self._made_as, self._memory)
        self._memory["battles"].copy_(state["battles"])
        self._memory["last_action"].copy_(state["last_action"])
        self._spread(
            lambda first, end: show(self._battles, self._types, self._ground, self._views, first, end), self.num_envs
        )
        # After the look at the field, which lets the units of a battle that never began do nothing.
        for name, tensor in self._memory.items():
            tensor.copy_(state[name])

    def observe(self, episodes: TensorDict) -> TensorDict:
        """Add what was seen in recorded battles of this map; see :class:`AbstractEnvironment`.

        Battles under way are not touched, and other threads may run meanwhile.
        """
        n_units = self._battles.shape[1]
        return look_back(episodes, self.spec, n_units, self._types, self._ground, self._spread)

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()

    def _spread(self, work: Callable[[int, int], Any], number: int) -> None:
        """Let the threads share the work on this number of battles."""
        if self._pool is None:
            work(0, number)
        else:
            parts = min(self._threads, number)
            bounds = [number * part // parts for part in range(parts + 1)] if parts else []
            for done in [self._pool.submit(work, *ends) for ends in pairwise(bounds)]:
                done.result()

    def _refuse_illegal(self, actions: Any) -> None:
        index = first_illegal(self._views.action_mask, actions)
        if index >= 0:
            battle, agent = divmod(index, self.spec.n_agents)
            legal = np.flatnonzero(self._views.action_mask[battle, agent]).tolist()
            raise ValueError(
                f"Agent {agent} of battle {battle} cannot take action {actions[battle, agent]}; "
                f"legal are {legal}. Choose by ('agents', 'action_mask')."
            )
