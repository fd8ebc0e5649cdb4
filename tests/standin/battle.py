"""The embedded simulator with one battle, game loop by game loop: all that the stand-in knows of its inside."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from qmix_lightning.envs.battle.compiling import SOURCES, kernel
from qmix_lightning.envs.battle.discovery import nth_of_others
from qmix_lightning.envs.battle.engine import LOOPS_BEFORE_FIRST_SIGHT, game_loop
from qmix_lightning.envs.battle.observation import look
from qmix_lightning.envs.battle.options import smac_options
from qmix_lightning.envs.battle.orders import EAST, NORTH, SOUTH, STOP, WEST, give_order
from qmix_lightning.envs.battle.physics import Physics
from qmix_lightning.envs.battle.reward import outcome, step_reward
from qmix_lightning.envs.battle.scenario import load_scenario
from qmix_lightning.envs.battle.spawning import draw, lineup_of, muster
from qmix_lightning.envs.battle.state import CLOCK, UNIT, start_keys, throw
from qmix_lightning.envs.battle.terrain import BLOCKED
from qmix_lightning.envs.battle.world import world_of

__all__ = ["LOOPS_BEFORE_FIRST_SIGHT", "UNIT", "Battle", "Shown", "judge", "see"]


class Shown(NamedTuple):
    """One living unit as the protocol shows it."""

    slot: int
    agent: bool
    name: str
    x: float
    y: float
    health: float
    health_max: float
    shield: float
    shield_max: float
    energy: float
    cooldown: float


@kernel
def _draw(battles, world, laws, clocks, lineup, _=SOURCES):
    draw(battles[0], world, laws[0], clocks[0], lineup)


@kernel
def _muster(battles, world, laws, clocks, lineup, _=SOURCES):
    muster(battles[0], world, laws[0], clocks[0], lineup)


@kernel
def _play(battles, world, laws, clocks, loops, _=SOURCES):
    for _loop in range(loops):
        game_loop(battles[0], world, laws[0], clocks[0])


@kernel
def _throw(clocks, _=SOURCES):
    return throw(clocks[0], 1)


@kernel
def _nth(bits, nth, _=SOURCES):
    return nth_of_others(bits, nth)


@kernel
def _look(units, world, time, observation, action_mask, state, last_action, _=SOURCES):
    look(units, world, time, observation, action_mask, state, last_action)


@kernel
def _judge(units, world, best, _=SOURCES):
    return step_reward(units, world, best, outcome(units, world))


@kernel
def _order(battles, world, agent, action, _=SOURCES):
    give_order(battles[0], world, agent, action)


def see(spec, world, units, time, last_action):
    """What agents would see of ``units``: observations, masks and state.

    Args:
        spec: Their sizes.
        world: What they are in.
        units: ``[U]`` UNIT.
        time: Part of the episode limit that has passed.
        last_action: ``[N]``, -1 before the first.
    """
    observation = np.zeros((spec.n_agents, spec.observation_size), dtype=np.float32)
    action_mask = np.zeros((spec.n_agents, spec.n_actions), dtype=np.bool_)
    state = np.zeros(spec.state_size, dtype=np.float32)
    _look(units, world, time, observation, action_mask, state, last_action)
    return observation, action_mask, state


def judge(env, before, after, best):
    """The reward in ``env`` of a step from some units to others, both ``[U]`` UNIT, scaled by ``best``."""
    units = after.copy()
    units["health_before"], units["shield_before"] = before["health"], before["shield"]
    return _judge(units, env.world, best)


class Battle:
    """One battle after the other, the same ones as in an environment of this seed.

    Args:
        name: One of SMAC's maps or of SMACv2's scenarios.
        seed: The environment's seed.
        move_amount: Cells that a move order leads away, of the environment in front.
        enemy_order: How the enemies are numbered.
        physics: Options of :class:`~qmix_lightning.envs.battle.physics.Physics`.
    """

    def __init__(self, name, seed, *, move_amount=2.0, enemy_order="random", **physics):
        law = Physics(**physics)
        scenario = load_scenario(name, law.pathing)
        self._world = world_of(scenario, smac_options({"move_amount": move_amount}, version=scenario.version))
        self._lineup = lineup_of(scenario, self._world, enemy_order)
        self._laws, self._clocks = law.laws(1), np.zeros(1, dtype=CLOCK)
        self._battles = np.zeros((1, scenario.n_agents + scenario.n_enemies), dtype=UNIT)
        start_keys(self._clocks, np.uint64(seed), 0)
        self._types, self.name = scenario.unit_types, name
        self.n_agents, self.n_enemies = scenario.n_agents, scenario.n_enemies
        self.agent_names = sorted({squad.unit.name for squad in scenario.allies})
        self.walkable = self._world.ground != BLOCKED
        self.height = np.round(self._world.heights * 255).astype(np.uint8)

    def spawn(self):
        """Start the next battle."""
        self.draw()
        _muster(self._battles, self._world, self._laws, self._clocks, self._lineup)

    def draw(self):
        """Draw the next battle: ``(agent, name, x, y)`` of each unit to be created."""
        _draw(self._battles, self._world, self._laws, self._clocks, self._lineup)
        return [
            (slot < self.n_agents, self._types[unit["kind"]].name, float(unit["x"]), float(unit["y"]))
            for slot, unit in enumerate(self._battles[0])
        ]

    def begin(self, created):
        """Start the next battle of these units; chance goes on as if it had drawn them."""
        self.draw()
        names = [unit.name for unit in self._types]
        for unit, (_, name, x, y) in zip(self._battles[0], sorted(created, key=lambda new: not new[0]), strict=True):
            unit["kind"], unit["x"], unit["y"] = names.index(name), x, y
        _muster(self._battles, self._world, self._laws, self._clocks, self._lineup)

    def roll(self):
        """The next number from [0, 1) by which it is decided which agent knows of what."""
        return _throw(self._clocks)

    def shuffle(self, agents):
        """Let the agents look about in the order in which those of the simulator do."""
        turns, had_turns = list(agents), 0
        for place in range(len(agents)):
            agent = _nth(had_turns, int((len(agents) - place) * self.roll()))
            agents[place] = turns[agent]
            had_turns |= 1 << agent

    def play(self, loops):
        """Play some game loops."""
        _play(self._battles, self._world, self._laws, self._clocks, loops)

    def kill(self, slots):
        """Let units be dead from now on."""
        for slot in slots:
            self._battles[0, slot]["health"] = 0

    def stop(self, slot):
        """Order an agent's unit to stop."""
        self._order(slot, STOP)

    def move(self, slot, x, y):
        """Order an agent's unit to a point, which must be where SMAC's moves lead."""
        unit = self._battles[0, slot]
        east, north = x - unit["x"], y - unit["y"]
        self._order(slot, (EAST if east > 0 else WEST) if abs(east) > abs(north) else NORTH if north > 0 else SOUTH)
        if (unit["goal_x"], unit["goal_y"]) != (x, y):
            raise ValueError(f"Expected a move to {unit['goal_x'], unit['goal_y']}, got {x, y}.")

    def target(self, slot, target):
        """Order an agent's unit to attack an enemy, or to heal another agent."""
        first = self.n_agents if target >= self.n_agents else 0
        self._order(slot, self._world.rules.first_attack + target - first)

    def units(self):
        """Everybody who lives."""
        for slot, unit in enumerate(self._battles[0]):
            kind = self._types[unit["kind"]]
            if unit["health"] > 0:
                yield Shown(
                    slot, slot < self.n_agents, kind.name, unit["x"], unit["y"], unit["health"], kind.health,
                    unit["shield"], kind.shield, unit["energy"], unit["cooldown"],
                )  # fmt: skip

    def _order(self, slot, action):
        _order(self._battles, self._world, slot, action)


def compile_all():
    """Compile what games call, and keep it."""
    battle = Battle("3m", 0)
    battle.spawn()
    battle.stop(0)
    battle.play(1)
