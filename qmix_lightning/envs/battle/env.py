"""The embedded battle simulator as an environment."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict
from torch import Tensor

from qmix_lightning.envs.base import AbstractEnvironment, Stages
from qmix_lightning.envs.battle.arena import Arena, HostArena, Memory
from qmix_lightning.envs.battle.driver import require_gpu
from qmix_lightning.envs.battle.engine import trace
from qmix_lightning.envs.battle.hindsight import look_back
from qmix_lightning.envs.battle.options import SmacOptions, smac_options
from qmix_lightning.envs.battle.physics import LAWS, Physics
from qmix_lightning.envs.battle.saving import as_tensor, layout, refuse_other_battles
from qmix_lightning.envs.battle.scenario import Scenario, load_scenario
from qmix_lightning.envs.battle.spawning import ENEMY_ORDERS, EnemyOrder, lineup_of
from qmix_lightning.envs.battle.state import CLOCK, UNIT, start_keys
from qmix_lightning.envs.battle.views import empty_views, observation_size, state_size
from qmix_lightning.envs.battle.world import world_of
from qmix_lightning.functional.memory import BatchMemory
from qmix_lightning.functional.stages import is_own
from qmix_lightning.spec import UNITS, TaskSpec

PHYSICS_OPTIONS: Final = tuple(field.name for field in fields(Physics))

CAPABILITIES: Final = ("capability_config", "team_gen", "start_positions", "attack", "health", "enemy_mask")
"""How SMACv2 calls what it draws anew for every battle."""


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
        threads: Threads over which the battles are spread, on the CPU.
        device: ``"cpu"``, or ``"cuda"`` for torch's current GPU, where the views are then, too. There nobody waits for
            a step: an illegal action is replaced by a legal one, and raised at a later :meth:`reset`.
        enemy_order: How the enemies are numbered: ``"random"`` in every battle, by ``"creation"``, or ``"sorted"`` by
            type and place.
        physics: ``"fixed"`` as the options say, or drawn at ``"random"`` for every battle out of what is possible.
        options: Fields of :class:`~qmix_lightning.envs.battle.physics.Physics`, the open questions about the game, and
            of :class:`~qmix_lightning.envs.battle.options.SmacOptions`, what SMAC lets its users choose.

    Raises:
        ValueError: If there is no such map or option, or a value is out of range.
        RuntimeError: If there is no GPU on this machine, or it cannot be programmed.

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
        device: str | torch.device = "cpu",
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
            no_op_is_final=True,
        )
        self.num_envs, self._first, self.scenario = num_envs, first, scenario
        memory = Memory(
            battles=np.zeros((num_envs, scenario.n_agents + scenario.n_enemies), dtype=UNIT),
            clocks=np.zeros(num_envs, dtype=CLOCK),
            laws=switches.laws(num_envs, drawn=physics == "random"),
            world=world,
            lineup=lineup_of(scenario, world, enemy_order),
            views=empty_views(world, num_envs),
        )
        # Lightning evaluates in inference mode, and nobody else could write to what is made there.
        with torch.inference_mode(False):
            self._arena = _arena(memory, torch.device(device), threads)
            self.replayable = self._arena.device.type == "cuda"
            self._battles, self._clocks, self._laws, _, self._lineup, self._views = self._arena.memory
            tensors = self._arena.tensors
            self._scene = TensorDict(
                {
                    "agents": {name: tensors[name] for name in ("observation", "action_mask")},
                    "state": tensors["state"],
                    UNITS: tensors["units"],
                },
                batch_size=[num_envs],
            )
            result = {name: tensors[name] for name in ("reward", "done", "terminated")}
            self._outcome = self._scene.copy().update(
                {**result, "info": {name: tensors[name] for name in self.info_keys}}
            )
        self._made_as: dict[str, str | int | float] = {
            "task": self.spec.name, "num_envs": num_envs, "enemy_order": enemy_order,
            "physics": f"{physics} {switches}", "options": str(chosen),
            "unit_layout": layout(UNIT), "clock_layout": layout(CLOCK),
        }  # fmt: skip
        # Observation and state, which are nine tenths of it all, and the snapshot follow from the rest.
        derived = ("observation", "state", "units")
        self._memory = {name: tensor for name, tensor in tensors.items() if name not in derived}
        self._seen = BatchMemory()
        self.seed(seed)

    def __reduce__(self) -> Any:
        """Refuse to be copied: compiled code and tensors share the memory of battles, and those of a copy would not."""
        raise TypeError(
            "Battles cannot be copied or pickled. Make them anew, by the same arguments, and load_state_dict() what"
            " state_dict() of these tells."
        )

    def seed(self, seed: int) -> None:
        """Make the battles that start at the next full reset, and after, depend on this seed alone."""
        clocks = self._here("clocks", CLOCK)[:, 0]
        start_keys(clocks, np.uint64(operator.index(seed) % 2**64), self._first)
        self._arena.tensors["clocks"].copy_(as_tensor(clocks))

    def reset(self, which: Tensor | None = None) -> TensorDict:
        """Start new battles; see :class:`AbstractEnvironment`."""
        if which is not None and (which.shape != (self.num_envs,) or which.dtype != torch.bool):
            raise ValueError(f"Expected which of bool {[self.num_envs]}, got {_layout(which)}.")
        self._arena.restart(which)
        return self._scene

    def step(self, action: Tensor) -> TensorDict:
        """Play 8 game loops (``step_mul``), half a second of the catalogue; see :class:`AbstractEnvironment`."""
        if action.shape != (expected := (self.num_envs, self.spec.n_agents)) or action.dtype != torch.int64:
            raise ValueError(f"Expected actions of int64 {list(expected)}, got {_layout(action)}.")
        self._arena.advance(action)
        return self._outcome

    def stages(self, action: Tensor, which: Tensor) -> Stages | None:
        """What steps and resets do with these tensors; see :class:`AbstractEnvironment`."""
        if not self._is_as_defined() or (stages := self._arena.stages(action, which)) is None:
            return None
        return stages._replace(stay=self._is_as_defined)

    def trace(self, action: Tensor) -> NDArray[Any]:
        """Tell how the units would fare in a step, loop by loop, without playing it.

        Args:
            action: ``[B, N]`` int64, legal for each agent.

        Returns:
            ``[8, B, U]`` (``step_mul``) :data:`~qmix_lightning.envs.battle.state.UNIT` after each game loop; the last
            is where :meth:`step` will lead.
        """
        battles, laws, clocks = self.units, self._here("laws", LAWS)[:, 0], self._here("clocks", CLOCK)[:, 0]
        loops = np.zeros((int(self.world.rules.step_mul), *battles.shape), dtype=UNIT)
        trace(battles.copy(), self.world, laws, clocks.copy(), action.numpy(force=True), loops)
        return loops

    @property
    def units(self) -> NDArray[Any]:
        """The units as they are, ``[B, U]`` :data:`~qmix_lightning.envs.battle.state.UNIT`; not to be written to.

        Those on a GPU are waited for and copied.
        """
        view = self._here("battles", UNIT)
        view.flags.writeable = False
        return view

    def look(self) -> None:
        """Raise an illegal action in the steps so far, if it is known by now; see :class:`AbstractEnvironment`."""
        self._arena.look()

    def state_dict(self) -> dict[str, Any]:
        """Copy the battles under way, their clocks and random numbers, and what the last step brought.

        About 120 bytes a unit, and ``[B, ...]`` all of it.
        """
        self._arena.settle()
        return {**self._made_as, **{name: tensor.to("cpu", copy=True) for name, tensor in self._memory.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`state_dict`, whatever the seed and ``first`` here; see :class:`AbstractEnvironment`."""
        refuse_other_battles(state, self._made_as, self._memory)
        self._memory["battles"].copy_(state["battles"])
        self._memory["last_action"].copy_(state["last_action"])
        self._memory["clocks"].copy_(state["clocks"])
        self._arena.show()
        # After the look at the field, which lets the units of a battle that never began do nothing.
        for name, tensor in self._memory.items():
            tensor.copy_(state[name])

    def observe(self, episodes: TensorDict) -> TensorDict:
        """Add what was seen in recorded battles of this map; see :class:`AbstractEnvironment`.

        Battles under way are not touched, and other threads may run meanwhile.
        """
        n_units, shown = self._scene[UNITS].shape[1:]
        return look_back(episodes, self.spec, n_units, shown, self._arena.device, self._arena.see, self._seen)

    def close(self) -> None:
        """Give back what the battles hold, such as threads."""
        self._arena.close()

    def _is_as_defined(self) -> bool:
        return is_own(self, "step", _STEP) and is_own(self, "reset", _RESET)

    def _here(self, name: str, kind: np.dtype[Any]) -> NDArray[Any]:
        """Records of the arena ``[B, ...]``: on the CPU themselves, from a GPU copies."""
        records: NDArray[Any] = self._arena.tensors[name].numpy(force=True).view(kind)
        return records


_STEP, _RESET = BattleEnvironment.step, BattleEnvironment.reset


def _layout(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _arena(memory: Memory, device: torch.device, threads: int) -> Arena:
    if device.type == "cpu":
        return HostArena(memory, threads)
    if device.type != "cuda":
        raise ValueError(f"Battles are fought on device 'cpu' or 'cuda', got {str(device)!r}.")
    if threads > 1:
        raise ValueError(f"threads are those of the CPU; with device {str(device)!r} expected 1, got {threads}.")
    require_gpu()
    # Imported when asked for: most machines have no GPU, and need not wait for its compiler.
    from qmix_lightning.envs.battle.gpu import GpuArena

    return GpuArena(memory, device)


def _split(options: Mapping[str, Any]) -> tuple[Physics, dict[str, Any]]:
    """Tell the options of physics from SMAC's."""
    for name in options:
        if name in CAPABILITIES:
            raise ValueError(
                f"{name} belongs to SMACv2's capabilities. Of those battles have random teams and starts, by maps such "
                "as 'terran_5_vs_5'; attack, health and enemy_mask, which none of SMACv2's scenarios uses, are missing."
                " Leave it out, or play SMACv2 itself: make('smacv2/...')."
            )
        if name not in BattleEnvironment.option_names:
            near = difflib.get_close_matches(name, BattleEnvironment.option_names, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"Battles have no option {name!r}.{hint}")
    physics = {name: value for name, value in options.items() if name in PHYSICS_OPTIONS}
    return Physics(**physics), {name: value for name, value in options.items() if name not in PHYSICS_OPTIONS}
