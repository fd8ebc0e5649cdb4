"""The embedded battle simulator as an environment."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from itertools import pairwise
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict
from torch import Tensor

from qmix_lightning.envs.base import AbstractEnvironment
from qmix_lightning.envs.battle.engine import advance, first_illegal, restart, trace
from qmix_lightning.envs.battle.hindsight import look_back
from qmix_lightning.envs.battle.observation import show
from qmix_lightning.envs.battle.options import SmacOptions, smac_options
from qmix_lightning.envs.battle.physics import Physics
from qmix_lightning.envs.battle.saving import as_tensor, layout, refuse_other_battles
from qmix_lightning.envs.battle.scenario import Scenario, load_scenario
from qmix_lightning.envs.battle.spawning import ENEMY_ORDERS, EnemyOrder, lineup_of
from qmix_lightning.envs.battle.state import CLOCK, SEEN, UNIT, seen, start_keys
from qmix_lightning.envs.battle.views import empty_views, observation_size, state_size
from qmix_lightning.envs.battle.world import World, world_of
from qmix_lightning.spec import UNITS, TaskSpec

PHYSICS_OPTIONS: Final = tuple(field.name for field in fields(Physics))


class BattleEnvironment(AbstractEnvironment):
    """SMAC battles without StarCraft: the same observations, state, masks and rewards, from an embedded simulator.

    The battles in place ``first + b`` of a seed are the same, one after the other, whatever the batch and the number of
    threads.

    Args:
        map_name: One of SMAC's maps, e.g. ``"3m"``, of SMACv2's scenarios, e.g. ``"terran_5_vs_5"``, or a
            :class:`~qmix_lightning.envs.battle.scenario.Scenario` of one's own.
        num_envs: Number of battles B played side by side.
        seed: Seed of the battles.
        first: Number of this batch's first battle, so that several batches can share a seed.
        threads: Threads over which the battles are spread.
        enemy_order: How the enemies are numbered: ``"random"`` in every battle, by ``"creation"``, or ``"sorted"`` by
            type and place.
        physics: ``"fixed"`` as the options say, or drawn at ``"random"`` for every battle out of what is possible.
        options: Fields of :class:`~qmix_lightning.envs.battle.physics.Physics`, the open questions about the game, and
            of :class:`~qmix_lightning.envs.battle.options.SmacOptions`, what SMAC lets its users choose.

    Raises:
        ValueError: If there is no such map or option, or a value is out of range.

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
    option_names = (*PHYSICS_OPTIONS, *SmacOptions._fields)

    def __init__(
        self,
        map_name: str | Scenario,
        num_envs: int = 1,
        seed: int = 0,
        *,
        first: int = 0,
        threads: int = 1,
        enemy_order: EnemyOrder = "random",
        physics: Literal["fixed", "random"] = "fixed",
        **options: Any,
    ) -> None:
        for option, value in (("num_envs", num_envs), ("threads", threads)):
            if value < 1:
                raise ValueError(f"{option} must be at least 1, got {value}.")
        if enemy_order not in ENEMY_ORDERS:
            raise ValueError(f"Unknown enemy_order {enemy_order!r}. Expected 'random', 'creation' or 'sorted'.")
        if physics not in ("fixed", "random"):
            raise ValueError(f"Unknown physics {physics!r}. Expected 'fixed' or 'random'.")
        switches, shown = _split(options)
        scenario = map_name if isinstance(map_name, Scenario) else load_scenario(map_name, switches.pathing)
        chosen = smac_options(shown, version=scenario.version)
        world = self.world = world_of(scenario, chosen)
        self.spec = TaskSpec(
            name=f"battle/{scenario.name}",
            n_agents=scenario.n_agents,
            n_actions=int(world.rules.n_actions),
            observation_size=observation_size(world),
            state_size=state_size(world),
            episode_limit=scenario.episode_limit,
        )
        self.num_envs, self._first, self.scenario = num_envs, first, scenario
        self._lineup = lineup_of(scenario, world, enemy_order)
        self._battles = np.zeros((num_envs, scenario.n_agents + scenario.n_enemies), dtype=UNIT)
        self._clocks, self._laws = np.zeros(num_envs, dtype=CLOCK), switches.laws(num_envs, drawn=physics == "random")
        self._views = empty_views(world, num_envs)
        self._pool, self._threads = ThreadPoolExecutor(threads) if threads > 1 else None, threads
        self._all = np.ones(num_envs, dtype=np.bool_)
        self._scene = TensorDict(
            {
                "agents": {
                    "observation": torch.from_numpy(self._views.observation),
                    "action_mask": torch.from_numpy(self._views.action_mask),
                },
                "state": torch.from_numpy(self._views.state),
                UNITS: torch.from_numpy(seen(self._battles, fields_shown(world))),
            },
            batch_size=[num_envs],
        )
        result = {name: torch.from_numpy(getattr(self._views, name)) for name in ("reward", "done", "terminated")}
        info = {name: torch.from_numpy(getattr(self._views, name)) for name in self.info_keys}
        self._outcome = self._scene.copy().update({**result, "info": info})
        self._made_as: dict[str, str | int | float] = {
            "task": self.spec.name, "num_envs": num_envs, "enemy_order": enemy_order,
            "physics": f"{physics} {switches}", "options": str(chosen),
            "unit_layout": layout(UNIT), "clock_layout": layout(CLOCK),
        }  # fmt: skip
        # Observation and state, which are nine tenths of it all, follow from the rest.
        views = {name: view for name, view in self._views._asdict().items() if name not in ("observation", "state")}
        memory = {"battles": self._battles, "clocks": self._clocks, "laws": self._laws, **views}
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
                self._battles, self.world, self._laws, self._clocks, self._lineup, self._views, chosen, first, end
            ),
            self.num_envs,
        )
        return self._scene

    def step(self, action: Tensor) -> TensorDict:
        """Play 8 game loops (``step_mul``), half a second of the catalogue; see :class:`AbstractEnvironment`."""
        actions = np.ascontiguousarray(action.numpy())  # another memory layout would be compiled anew
        if actions.shape != self._views.last_action.shape or actions.dtype != np.int64:
            expected = f"int64 {list(self._views.last_action.shape)}"
            raise ValueError(f"Expected actions of {expected}, got {actions.dtype} {list(actions.shape)}.")
        self._refuse_illegal(actions)
        self._spread(
            lambda first, end: advance(
                self._battles, self.world, self._laws, self._clocks, self._views, actions, first, end
            ),
            self.num_envs,
        )
        return self._outcome

    def trace(self, action: Tensor) -> NDArray[Any]:
        """Tell how the units would fare in a step, loop by loop, without playing it.

        Args:
            action: ``[B, N]`` int64, legal for each agent.

        Returns:
            ``[8, B, U]`` (``step_mul``) :data:`~qmix_lightning.envs.battle.state.UNIT` after each game loop; the last
            is where :meth:`step` will lead.
        """
        loops = np.zeros((int(self.world.rules.step_mul), *self._battles.shape), dtype=UNIT)
        trace(self._battles.copy(), self.world, self._laws, self._clocks.copy(), action.numpy(), loops)
        return loops

    @property
    def units(self) -> NDArray[Any]:
        """The units as they are, ``[B, U]`` :data:`~qmix_lightning.envs.battle.state.UNIT`; not to be written to."""
        view = self._battles.view()
        view.flags.writeable = False
        return view

    def state_dict(self) -> dict[str, Any]:
        """Copy the battles under way, their clocks and random numbers, and what the last step brought.

        About 120 bytes a unit, and ``[B, ...]`` all of it.
        """
        return {**self._made_as, **{name: tensor.clone() for name, tensor in self._memory.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`state_dict`, whatever the seed and ``first`` here; see :class:`AbstractEnvironment`."""
        refuse_other_battles(state, self._made_as, self._memory)
        self._memory["battles"].copy_(state["battles"])
        self._memory["last_action"].copy_(state["last_action"])
        self._memory["clocks"].copy_(state["clocks"])
        self._spread(
            lambda first, end: show(self._battles, self.world, self._clocks, self._views, first, end), self.num_envs
        )
        # After the look at the field, which lets the units of a battle that never began do nothing.
        for name, tensor in self._memory.items():
            tensor.copy_(state[name])

    def observe(self, episodes: TensorDict) -> TensorDict:
        """Add what was seen in recorded battles of this map; see :class:`AbstractEnvironment`.

        Battles under way are not touched, and other threads may run meanwhile.
        """
        return look_back(episodes, self.spec, self.world, self._scene[UNITS].shape[-1], self._spread)

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


def fields_shown(world: World) -> int:
    """How many of the :data:`~qmix_lightning.envs.battle.state.SEEN` fields tell what is seen in these battles."""
    alike = len(world.types) == 1 and not world.types["shield"].any() and not world.types["energy"].any()
    return len(SEEN) if world.rules.version == 2 else SEEN.index("cooldown" if alike else "type") + 1


def _split(options: Mapping[str, Any]) -> tuple[Physics, dict[str, Any]]:
    """Tell the options of physics from SMAC's."""
    for name in options:
        if name not in BattleEnvironment.option_names:
            near = difflib.get_close_matches(name, BattleEnvironment.option_names, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"Battles have no option {name!r}.{hint}")
    physics = {name: value for name, value in options.items() if name in PHYSICS_OPTIONS}
    return Physics(**physics), {name: value for name, value in options.items() if name not in PHYSICS_OPTIONS}
