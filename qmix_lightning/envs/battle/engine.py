"""The battle itself: game loops, environment steps and fresh starts, over a range of battles."""

from __future__ import annotations

from typing import Any

from qmix_lightning.envs.battle.combat import engage, forget_the_dead, take_damage
from qmix_lightning.envs.battle.compiling import SOURCES, kernel, subroutine
from qmix_lightning.envs.battle.movement import SEPARATION_PASSES, plan_step, separate, shift
from qmix_lightning.envs.battle.observation import observe
from qmix_lightning.envs.battle.opponent import acquire, answer
from qmix_lightning.envs.battle.orders import give_order
from qmix_lightning.envs.battle.reward import UNDECIDED, WON, alive, outcome, step_reward
from qmix_lightning.envs.battle.spawning import spawn

LOOPS_PER_STEP = 8
"""Game loops in one environment step, half a catalogue second."""

LOOPS_BEFORE_FIRST_SIGHT = 2
"""Game loops that SMAC lets pass between the start of a battle and its first observation."""


@subroutine
def game_loop(units: Any, types: Any, clock: Any, ground: Any, n_agents: int) -> None:
    """Play a sixteenth of a catalogue second: targets, weapons, damage on both sides at once, then steps and pushes."""
    n_units = units.shape[0]
    for i in range(n_units):
        if units[i].health > 0:
            forget_the_dead(units, i)
            if i >= n_agents:
                acquire(units, types, i, n_agents)
    for i in range(n_units):
        units[i].moving = False
        if units[i].health > 0 and not engage(units, types, clock, i):
            plan_step(units, types, i)
    for i in range(n_units):
        if units[i].hurt > 0:
            take_damage(units, i)
            if i >= n_agents:
                answer(units, i, n_agents)
    for i in range(n_units):
        shift(units, types, ground, i)
    separate(units, types, ground, SEPARATION_PASSES)


@kernel
def restart(
    battles: Any, types: Any, clocks: Any, ground: Any, lineup: Any, views: Any, which: Any, first: int, end: int,
    _: int = SOURCES,
) -> None:  # fmt: skip
    """Start those of the battles from ``first`` up to ``end`` anew that ``which`` marks."""
    for b in range(first, end):
        if which[b]:
            units, clock = battles[b], clocks[b]
            spawn(units, types, clock, ground, lineup)
            for _loop in range(LOOPS_BEFORE_FIRST_SIGHT):
                game_loop(units, types, clock, ground, lineup.n_agents)
            views.last_action[b] = -1
            observe(units, types, ground, views, b)


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
def start_step(units: Any, n_agents: int, actions: Any) -> None:
    """Note the units' health before an environment step, and give the agents their orders."""
    for i in range(units.shape[0]):
        units[i].health_before = units[i].health
    for agent in range(n_agents):
        if units[agent].health > 0:
            give_order(units, agent, n_agents, actions[agent])


@kernel
def trace(battles: Any, types: Any, clocks: Any, ground: Any, actions: Any, loops: Any, _: int = SOURCES) -> None:
    """Play one environment step of battles and write their units into ``loops`` ``[8, B, U]`` after every game loop."""
    n_agents = actions.shape[1]
    for b in range(battles.shape[0]):
        start_step(battles[b], n_agents, actions[b])
        for loop in range(LOOPS_PER_STEP):
            game_loop(battles[b], types, clocks[b], ground, n_agents)
            for i in range(battles.shape[1]):
                loops[loop, b, i] = battles[b, i]


@kernel
def advance(
    battles: Any, types: Any, clocks: Any, ground: Any, views: Any, actions: Any, limit: int, first: int, end: int,
    _: int = SOURCES,
) -> None:  # fmt: skip
    """Play one environment step of the battles from ``first`` up to ``end`` and write all their views."""
    n_agents, n_units = actions.shape[1], battles.shape[1]
    for b in range(first, end):
        units, clock = battles[b], clocks[b]
        for agent in range(n_agents):
            views.last_action[b, agent] = actions[b, agent]
        start_step(units, n_agents, actions[b])
        for _loop in range(LOOPS_PER_STEP):
            game_loop(units, types, clock, ground, n_agents)
        clock.steps += 1
        stands = outcome(units, n_agents)
        views.battle_won[b, 0] = stands == WON
        views.terminated[b, 0] = stands != UNDECIDED
        views.done[b, 0] = stands != UNDECIDED or clock.steps >= limit
        views.reward[b, 0] = step_reward(units, types, n_agents, stands == WON)
        views.dead_allies[b, 0] = n_agents - alive(units, 0, n_agents)
        views.dead_enemies[b, 0] = n_units - n_agents - alive(units, n_agents, n_units)
        observe(units, types, ground, views, b)
