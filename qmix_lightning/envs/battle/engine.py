"""The battle itself: game loops, environment steps and fresh starts, over a range of battles."""

from __future__ import annotations

from typing import Any

import numpy as np

from qmix_lightning.envs.battle.combat import burst, engage, fly, forget_the_dead, recover, take_damage
from qmix_lightning.envs.battle.compiling import SOURCES, kernel, subroutine
from qmix_lightning.envs.battle.discovery import discover, forget
from qmix_lightning.envs.battle.healing import heal
from qmix_lightning.envs.battle.movement import SEPARATION_PASSES, plan_step, separate, shift
from qmix_lightning.envs.battle.observation import observe
from qmix_lightning.envs.battle.opponent import acquire, answer
from qmix_lightning.envs.battle.orders import give_order
from qmix_lightning.envs.battle.reward import UNDECIDED, WON, alive, best_reward, outcome, step_reward
from qmix_lightning.envs.battle.spawning import spawn
from qmix_lightning.envs.battle.state import DYING, IDLE, NOBODY, kind_of, plain
from qmix_lightning.envs.battle.world import World

LOOPS_BEFORE_FIRST_SIGHT = 2
"""Game loops that SMAC lets pass between the start of a battle and its first observation; SMACv2 one."""


@subroutine
def game_loop(units: Any, world: Any, law: Any, clock: Any) -> None:
    """Play a sixteenth of a catalogue second: targets, weapons, damage on both sides at once, then steps and pushes."""
    n_units, n_agents = units.shape[0], world.rules.n_agents
    for i in range(n_units):
        if units[i].health > 0:
            forget_the_dead(units, i)
            if i >= n_agents:
                acquire(units, world, law, i)
    for i in range(n_units):
        units[i].moving = False
        if not plain(world) and units[i].flight > 0:
            fly(units, world, i)
        if units[i].health <= 0:
            continue
        armed = plain(world) or world.types[kind_of(units, world, i)].armed > 0
        stands = engage(units, world, clock, i) if armed else heal(units, world, i)
        if not stands:
            plan_step(units, world, i)
        if not plain(world) and not units[i].moving:
            units[i].pace = 0
    _suffer(units, world, law)
    for i in range(n_units):
        shift(units, world, i)
    separate(units, world, law, SEPARATION_PASSES)


@subroutine
def _suffer(units: Any, world: Any, law: Any) -> None:
    """Apply the damage of this loop; answer who did it, let the dying burst, and the living recover."""
    bursts = False
    for i in range(units.shape[0]):
        if units[i].hurt != 0 or (not plain(world) and units[i].shield_hurt > 0):
            take_damage(units, world, i)
            if units[i].shooter != NOBODY and i >= world.rules.n_agents:
                answer(units, world, i)
            units[i].shooter = NOBODY
            if not plain(world):
                bursts = bursts or (units[i].health <= 0 and world.types[units[i].kind].burst_radius > 0)
        if units[i].health > 0:
            recover(units, world, law, i)
    if bursts:
        for i in range(units.shape[0]):
            if units[i].order == DYING:
                units[i].order = IDLE
                if world.types[units[i].kind].burst_radius > 0:
                    burst(units, world, i)


@kernel
def restart(
    battles: Any, w: Any, laws: Any, clocks: Any, lineup: Any, views: Any, which: Any, first: int, end: int,
    _: int = SOURCES,
) -> int:  # fmt: skip
    """Start those of the battles from ``first`` up to ``end`` anew that ``which`` marks; the rules are in an array.

    Returns:
        How many.
    """
    # Put together here: a bare record takes as long to be read as all the other arguments.
    world = World(w.types, w.damage, w.ground, w.heights, w.waypoints, w.directions, w.rules[0], w.variety)
    started = 0
    for b in range(first, end):
        if which[b]:
            begin_battle(battles[b], world, laws[b], clocks[b], lineup, views, b)
            started += 1
    return started


@subroutine
def begin_battle(units: Any, world: Any, law: Any, clock: Any, lineup: Any, views: Any, b: int) -> None:
    """Start battle ``b`` and write what is seen first."""
    spawn(units, world, law, clock, lineup)
    if clock.episode == np.uint64(1):  # SMACv2, too, scales all rewards by the first enemies that it drew
        clock.best = best_reward(units, world)
    for _loop in range(LOOPS_BEFORE_FIRST_SIGHT if world.rules.version == 1 else 1):
        game_loop(units, world, law, clock)
    views.last_action[b] = -1
    if not plain(world) and world.rules.version == 2:
        discover(units, world, clock)
        discover(units, world, clock)  # SMACv2's reset looks about already, before the learner does
    observe(units, world, clock, views, b)


@kernel
def first_illegal(action_mask: Any, actions: Any, _: int = SOURCES) -> int:
    """Index of the first illegal action in ``actions`` ``[B, N]``, counted through all battles, or -1."""
    n_battles, n_agents = actions.shape
    for b in range(n_battles):
        for agent in range(n_agents):
            action = actions[b, agent]
            if not (0 <= action < action_mask.shape[2] and action_mask[b, agent, action]):
                return int(b * n_agents + agent)
    return -1


@subroutine
def start_step(units: Any, world: Any, actions: Any) -> None:
    """Note strength and place before an environment step, and give the agents their orders."""
    for i in range(units.shape[0]):
        units[i].health_before = units[i].health
        units[i].shield_before = units[i].shield
        units[i].x_before, units[i].y_before = units[i].x, units[i].y
    for agent in range(world.rules.n_agents):
        if units[agent].health > 0:
            give_order(units, world, agent, actions[agent])


@kernel
def trace(battles: Any, world: Any, laws: Any, clocks: Any, actions: Any, loops: Any, _: int = SOURCES) -> None:
    """Play one environment step of battles and write their units into ``loops`` ``[L, B, U]`` after every game loop."""
    for b in range(battles.shape[0]):
        start_step(battles[b], world, actions[b])
        for loop in range(loops.shape[0]):
            game_loop(battles[b], world, laws[b], clocks[b])
            for i in range(battles.shape[1]):
                loops[loop, b, i] = battles[b, i]


@kernel
def advance(
    battles: Any, w: Any, laws: Any, clocks: Any, views: Any, actions: Any, first: int, end: int, _: int = SOURCES
) -> None:
    """Play one environment step of the battles from ``first`` up to ``end``; the rules are in an array."""
    world = World(w.types, w.damage, w.ground, w.heights, w.waypoints, w.directions, w.rules[0], w.variety)
    for b in range(first, end):
        play_step(battles[b], world, laws[b], clocks[b], views, actions[b], b)


@kernel
def advance_lawfully(battles: Any, w: Any, laws: Any, clocks: Any, views: Any, actions: Any, _: int = SOURCES) -> int:
    """Play one environment step of all battles, unless an action is illegal; the rules are in an array.

    Returns:
        The index of the first illegal action, counted through all battles, or -1.
    """
    illegal = first_illegal(views.action_mask, actions)
    if illegal < 0:
        advance(battles, w, laws, clocks, views, actions, 0, len(battles))
    return int(illegal)


@subroutine
def play_step(units: Any, world: Any, law: Any, clock: Any, views: Any, actions: Any, b: int) -> None:
    """Play one environment step of battle ``b``: orders, ``step_mul`` game loops, and what came of it."""
    n_agents, n_units = world.rules.n_agents, units.shape[0]
    for agent in range(n_agents):
        views.last_action[b, agent] = actions[agent]
    start_step(units, world, actions)
    for _loop in range(world.rules.step_mul):
        game_loop(units, world, law, clock)
    clock.steps += 1
    stands = outcome(units, world)
    views.battle_won[b, 0] = stands == WON
    views.terminated[b, 0] = stands != UNDECIDED
    views.done[b, 0] = stands != UNDECIDED or clock.steps >= world.rules.limit
    views.reward[b, 0] = step_reward(units, world, clock.best, stands)
    views.dead_allies[b, 0] = n_agents - alive(units, 0, n_agents)
    views.dead_enemies[b, 0] = n_units - n_agents - alive(units, n_agents, n_units)
    if not plain(world) and world.rules.version == 2:
        forget(units, world)
        discover(units, world, clock)
    observe(units, world, clock, views, b)
