"""Weapons: reach, wind-up, cooldown, and damage that lands at the same time on both sides."""

from __future__ import annotations

from typing import Any

from qmix_lightning.envs.battle.compiling import inlined
from qmix_lightning.envs.battle.state import ATTACK, IDLE, NOBODY, gap, uniform

RANGE_SLOP = 1.0
"""Cells beyond its reach to which a target may slip away without calling off an attack that has begun."""

JITTER_LOW, JITTER_HIGH = -1.0, 2.0
"""Game loops added to every weapon's period, drawn anew for each attack."""


@inlined
def call_off(units: Any, i: int) -> None:
    """Stop winding up: an attack called off before its damage costs no cooldown."""
    if units[i].wind_up > 0:
        units[i].wind_up = 0
        units[i].cooldown = 0


@inlined
def forget_the_dead(units: Any, i: int) -> None:
    """Drop a target that died; a unit that was ordered to attack it then idles."""
    target = units[i].target
    if target != NOBODY and units[target].health <= 0:
        call_off(units, i)
        units[i].target = NOBODY
        units[i].look = 0
        if units[i].order == ATTACK:
            units[i].order = IDLE


@inlined
def engage(units: Any, types: Any, clock: Any, i: int) -> bool:
    """Let unit ``i`` fight for one game loop, and tell whether it stands to do so.

    An attack winds up, then does its damage. The cooldown runs from the start of the wind-up; what is left of the last
    loop is carried into the next cooldown, so that attacks follow each other at the weapon's period on average.
    """
    kind = units[i].kind
    units[i].cooldown -= 1
    target = units[i].target
    stands = False
    if target != NOBODY:
        bridge = gap(units, types, i, target)
        if units[i].wind_up > 0:
            if bridge > types[kind].range + RANGE_SLOP:
                call_off(units, i)
            else:
                stands = True
                units[i].wind_up -= 1
                if units[i].wind_up <= 0:
                    units[i].wind_up = 0
                    units[target].hurt += types[kind].damage
                    units[target].shooter = i
        elif bridge <= types[kind].range:
            stands = True
            if units[i].cooldown <= 0:
                units[i].wind_up = types[kind].wind_up
                units[i].cooldown += types[kind].period + uniform(clock, JITTER_LOW, JITTER_HIGH)
    if units[i].cooldown < 0:
        units[i].cooldown = 0
    return stands


@inlined
def take_damage(units: Any, i: int) -> None:
    """Apply the damage that unit ``i`` was done in this loop, whoever died in it."""
    units[i].health = max(units[i].health - units[i].hurt, 0.0)
    units[i].hurt = 0
