"""The numbers by which StarCraft II knows what SMAC uses of it."""

from __future__ import annotations

MOVE, ATTACK, STOP, HEAL = 16, 23, 4, 386
"""Abilities."""

AGENTS, ENEMIES = 1, 2
"""Players."""

TYPES = {
    "colossus": 4, "baneling": 9, "marine": 48, "marauder": 51, "medivac": 54, "zealot": 73, "stalker": 74,
    "spine_crawler": 98, "zergling": 105, "hydralisk": 107,
}  # fmt: skip
"""The game's own unit types."""

COPIES = ("baneling", "colossus", "hydralisk", "marauder", "marine", "medivac", "stalker", "zealot", "zergling")
"""The types that SMACv2's map has copies of for the agents, numbered in this order from where the game's own end."""

FIRST_COPY = 1970
"""Where they end; on SMAC's maps the copies are those of the types that the agents have there, by name."""


EMPTY_MAP = "32x32_flat"
"""SMACv2's map: its environment creates the units, and which scenario they play is seen from race and numbers."""


def name_of(number, agent, copies, first_copy=FIRST_COPY):
    """The type's name that a number stands for, for an agent out of these copies.

    Example:
        >>> name_of(1971, True, ["stalker", "zealot"]), name_of(73, False, [])
        ('zealot', 'zealot')
    """
    if agent:
        return copies[number - first_copy]
    return next(name for name, known in TYPES.items() if known == number)
