"""Weapons: reach, wind-up, cooldown, missiles and splash, and damage that lands at the same time on both sides."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qmix_lightning.envs.battle.compiling import inlined, subroutine
from qmix_lightning.envs.battle.state import ATTACK, DYING, HEAL, IDLE, NOBODY, distance, gap, kind_of, plain, uniform

JITTER_LOW, JITTER_HIGH = -1.0, 2.0
"""Game loops added to every weapon's period, drawn anew for each attack."""

LEAST_DAMAGE = 0.5
"""What armour leaves of a hit at least."""

SHIELD_DELAY, SHIELD_RATE = 160, 0.125
"""Game loops without damage after which a shield comes back, and how much of it in each."""

_DEADLY = 1e6


@inlined
def call_off(units: Any, i: int) -> None:
    """Stop winding up: an attack called off before its damage costs no cooldown."""
    if units[i].wind_up > 0:
        units[i].wind_up = 0
        units[i].cooldown = 0


@inlined
def forget_the_dead(units: Any, i: int) -> None:
    """Drop a target that died; a unit that was ordered to attack or heal it then idles."""
    target = units[i].target
    if target != NOBODY and units[target].health <= 0:
        call_off(units, i)
        units[i].target = NOBODY
        units[i].look = 0
        if units[i].order == ATTACK or units[i].order == HEAL:
            units[i].order = IDLE


@inlined
def engage(units: Any, world: Any, clock: Any, i: int) -> bool:
    """Let unit ``i`` fight for one game loop, and tell whether it stands to do so.

    An attack winds up, then does its damage. The cooldown runs from the start of the wind-up; what is left of the last
    loop is carried into the next cooldown, so that attacks follow each other at the weapon's period on average.
    """
    unit_type = world.types[kind_of(units, world, i)]
    if units[i].cooldown > 0:  # a weapon that was ready before this loop begins its next period with it
        units[i].cooldown -= 1
    target = units[i].target
    stands = False
    if target != NOBODY:
        between = gap(units, world, i, target)
        if units[i].wind_up > 0:
            if between > unit_type.range + unit_type.range_slop:
                call_off(units, i)
            else:
                stands = True
                units[i].wind_up -= 1
                if units[i].wind_up <= 0:
                    units[i].wind_up = 0
                    _strike(units, world, i, target, between)
        elif between <= unit_type.range:
            stands = True
            if units[i].cooldown <= 0:
                wind_up = unit_type.close_wind_up if between <= unit_type.close_range else unit_type.wind_up
                units[i].wind_up = wind_up
                units[i].cooldown += unit_type.period + uniform(clock, JITTER_LOW, JITTER_HIGH)
                if wind_up == 0:
                    _strike(units, world, i, target, between)
    if units[i].cooldown < 0:
        units[i].cooldown = 0
    return stands


@inlined
def _strike(units: Any, world: Any, i: int, target: int, between: float) -> None:
    """Finish the attack that unit ``i`` has wound up for: hit, let a missile or a beam go, or burst."""
    unit_type = world.types[kind_of(units, world, i)]
    if plain(world):
        hit(units, world, i, target)
        units[i].flight_target = target
        return
    if unit_type.burst_radius > 0:
        units[i].hurt += _DEADLY
        return
    if unit_type.missile_speed > 0 and between > unit_type.close_range:
        units[i].flight = max(math.ceil(between / unit_type.missile_speed), 1.0)
    elif unit_type.flight > 0:
        units[i].flight = unit_type.flight
    else:
        hit(units, world, i, target)
        units[i].flight = unit_type.hit_delay
    units[i].flight_target = target


@subroutine
def fly(units: Any, world: Any, i: int) -> None:
    """Let what unit ``i`` sent off, alive or not, fly for one game loop: it follows its target and hits it for sure."""
    unit_type, target = world.types[kind_of(units, world, i)], units[i].flight_target
    if unit_type.hit_delay > 0 and units[i].health <= 0:  # the second blade of a dead zealot
        units[i].flight = 0
        return
    units[i].flight -= 1
    if unit_type.line_width > 0:
        aside = unit_type.flight - unit_type.side_flight
        if units[i].flight <= aside < units[i].flight + 1:
            _sweep(units, world, i, target)
    if units[i].flight > 0:
        return
    units[i].flight = 0
    if units[target].health > 0:
        hit(units, world, i, target)
        if unit_type.line_width > 0:
            hit(units, world, i, target)


@inlined
def _sweep(units: Any, world: Any, i: int, target: int) -> None:
    """Hit everybody but the target twice whose body touches the line through it, across the shot."""
    unit_type = world.types[kind_of(units, world, i)]
    dx = np.float64(units[target].x) - np.float64(units[i].x)
    dy = np.float64(units[target].y) - np.float64(units[i].y)
    far = math.sqrt(dx * dx + dy * dy)
    if far == 0:
        return
    dx, dy = dx / far, dy / far
    first, end = opponents(world, i)
    for j in range(first, end):
        if units[j].health > 0 and j != target:
            east = np.float64(units[j].x) - np.float64(units[target].x)
            north = np.float64(units[j].y) - np.float64(units[target].y)
            beyond = max(abs(east * dy - north * dx) - unit_type.line_half_length, 0.0)
            across = east * dx + north * dy
            if math.sqrt(beyond * beyond + across * across) <= unit_type.line_width + world.types[units[j].kind].radius:
                hit(units, world, i, j)
                hit(units, world, i, j)


@inlined
def burst(units: Any, world: Any, i: int) -> None:
    """Hit everybody whose body is within the burst of unit ``i``, which has just died."""
    unit_type = world.types[kind_of(units, world, i)]
    first, end = opponents(world, i)
    for j in range(first, end):
        if units[j].health > 0 and distance(units, i, j) <= unit_type.burst_radius + world.types[units[j].kind].radius:
            hit(units, world, i, j)


@inlined
def opponents(world: Any, i: int) -> tuple[int, int]:
    """The units that are not on the side of unit ``i``: the first, and the one after the last."""
    if i < world.rules.n_agents:
        return world.rules.n_agents, world.rules.n_agents + world.rules.n_enemies
    return 0, world.rules.n_agents


@inlined
def hit(units: Any, world: Any, i: int, j: int) -> None:
    """Let a hit of unit ``i`` take from the shield of unit ``j``, and what is left, less armour, from its health."""
    raw = world.damage[kind_of(units, world, i), kind_of(units, world, j)]
    if raw <= 0:
        return
    absorbed = 0.0
    if not plain(world):
        absorbed = min(raw, max(np.float64(units[j].shield) - np.float64(units[j].shield_hurt), 0.0))
        units[j].shield_hurt += absorbed
    if raw > absorbed:
        units[j].hurt += max(raw - absorbed - world.types[kind_of(units, world, j)].armour, LEAST_DAMAGE)
    units[j].shooter = i
    units[j].calm = 0


@inlined
def take_damage(units: Any, world: Any, i: int) -> None:
    """Apply the damage that was done to unit ``i`` in this loop, and how far it was healed, whoever died in it."""
    health, full = np.float64(units[i].health) - np.float64(units[i].hurt), world.types[kind_of(units, world, i)].health
    units[i].health = max(health, 0.0) if units[i].hurt > 0 else min(health, full)
    if not plain(world):
        units[i].shield = max(np.float64(units[i].shield) - np.float64(units[i].shield_hurt), 0.0)
    units[i].hurt = units[i].shield_hurt = 0
    if units[i].health <= 0:
        units[i].order, units[i].target, units[i].wind_up, units[i].shield = DYING, NOBODY, 0, 0


@inlined
def recover(units: Any, world: Any, law: Any, i: int) -> None:
    """Give living unit ``i`` back what returns by itself in one loop: shield, health and energy."""
    if plain(world):
        return
    unit_type = world.types[kind_of(units, world, i)]
    if unit_type.shield > 0:
        if units[i].calm < SHIELD_DELAY:
            units[i].calm += 1
        elif units[i].shield < unit_type.shield:
            units[i].shield = min(units[i].shield + SHIELD_RATE, unit_type.shield)
    if unit_type.regeneration > 0 and units[i].health < unit_type.health:
        units[i].health = min(units[i].health + unit_type.regeneration, unit_type.health)
    if law.creep_decay:
        units[i].hurt += unit_type.creep_decay
    if unit_type.energy_rate > 0:
        units[i].energy = min(units[i].energy + unit_type.energy_rate, unit_type.energy_limit)
