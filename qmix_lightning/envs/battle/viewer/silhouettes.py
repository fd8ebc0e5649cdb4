"""The shape of each unit type: polygons within a circle of radius 1, facing east."""

from __future__ import annotations

import math
from typing import Final, Literal

Point = tuple[float, float]
Tone = Literal["body", "limb", "mark"]
"""Filled in the team's colour; in a darker shade of it, for legs and weapons; or in ink, for what lies on the body."""
Part = tuple[Tone, tuple[Point, ...]]


def _ring(
    corners: int, radius: float, turn: float = 0.0, at: Point = (0.0, 0.0), flat: float = 1.0
) -> tuple[Point, ...]:
    angles = [turn + 2 * math.pi * corner / corners for corner in range(corners)]
    return tuple((at[0] + radius * math.cos(a), at[1] + radius * flat * math.sin(a)) for a in angles)


def _star(corners: int, outer: float, inner: float, turn: float = 0.0) -> tuple[Point, ...]:
    tips, dents = _ring(corners, outer, turn), _ring(corners, inner, turn + math.pi / corners)
    return tuple(point for pair in zip(tips, dents, strict=True) for point in pair)


def _bar(start: Point, end: Point, width: float) -> tuple[Point, ...]:
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = math.hypot(dx, dy)
    across = (-dy / length * width / 2, dx / length * width / 2)
    return (
        (start[0] + across[0], start[1] + across[1]),
        (end[0] + across[0], end[1] + across[1]),
        (end[0] - across[0], end[1] - across[1]),
        (start[0] - across[0], start[1] - across[1]),
    )


def _mirrored(points: tuple[Point, ...]) -> tuple[Point, ...]:
    return tuple((x, -y) for x, y in points)


def _symmetric(upper: tuple[Point, ...]) -> tuple[Point, ...]:
    """A closed outline from its upper half, which begins and ends on the axis."""
    return (*upper, *_mirrored(upper[-2:0:-1]))


def _both(tone: Tone, *shapes: tuple[Point, ...]) -> tuple[Part, ...]:
    """Each of the shapes on both sides."""
    return tuple((tone, points) for shape in shapes for points in (shape, _mirrored(shape)))


def _legs(*ends: Point, width: float = 0.2) -> tuple[Part, ...]:
    return _both("limb", *(_bar((0.0, 0.0), end, width) for end in ends))


SILHOUETTES: Final[dict[str, tuple[Part, ...]]] = {
    # A round helmet and a rifle.
    "marine": (("limb", _bar((0.2, 0.0), (1.5, 0.0), 0.36)), ("body", _ring(28, 0.85))),
    # Broad shoulders with a launcher on each.
    "marauder": (
        *_both("limb", _bar((0.0, 0.62), (1.25, 0.62), 0.38)),
        ("body", _ring(6, 0.95, turn=math.pi / 6)),
    ),
    # A hull between two engines, and the cross.
    "medivac": (
        *_both("limb", _ring(16, 0.34, at=(-0.2, 0.72))),
        ("body", _symmetric(((1.1, 0.0), (0.75, 0.34), (-0.5, 0.52), (-1.0, 0.3), (-1.0, 0.0)))),
        ("mark", _bar((-0.45, 0.0), (0.35, 0.0), 0.24)),
        ("mark", _bar((-0.05, -0.4), (-0.05, 0.4), 0.24)),
    ),
    # A pointed body on four long legs.
    "stalker": (
        *_legs((0.85, 0.75), (-0.8, 0.8)),
        ("body", _symmetric(((1.0, 0.0), (0.1, 0.62), (-0.75, 0.0)))),
        ("mark", _ring(12, 0.2, at=(0.25, 0.0))),
    ),
    # An arrowhead with two blades.
    "zealot": (
        *_both("limb", _bar((-0.1, 0.72), (1.25, 0.5), 0.22)),
        ("body", _symmetric(((0.95, 0.0), (-0.7, 0.85), (-0.35, 0.0)))),
    ),
    # A long head high above four feet.
    "colossus": (
        *_legs((0.8, 0.85), (-0.8, 0.85), width=0.13),
        ("body", _ring(28, 0.78, flat=0.5)),
        ("mark", _ring(16, 0.16, at=(0.42, 0.0))),
    ),
    # A slim body behind two claws.
    "zergling": (
        *_both("limb", ((0.1, 0.3), (0.65, 0.85), (1.2, 0.35), (0.65, 0.5))),
        ("body", _symmetric(((0.75, 0.0), (0.3, 0.5), (-0.35, 0.48), (-1.05, 0.0)))),
    ),
    # A swollen ball of acid.
    "baneling": (("body", _star(9, 1.0, 0.78)), ("mark", _ring(20, 0.5)), ("body", _ring(16, 0.3))),
    # A cobra's hood with a tail.
    "hydralisk": (
        ("limb", _symmetric(((0.0, 0.0), (-0.2, 0.28), (-1.15, 0.0)))),
        ("body", _symmetric(((1.0, 0.0), (0.45, 0.3), (0.1, 0.85), (-0.45, 0.55), (-0.3, 0.0)))),
    ),
    # Roots all around, and the spine.
    "spine_crawler": (
        ("limb", _star(10, 1.0, 0.55)),
        ("body", _ring(24, 0.62)),
        ("mark", _symmetric(((0.95, 0.0), (-0.2, 0.2), (-0.3, 0.0)))),
    ),
}
"""By the name of the type, its parts from the lowest to the highest."""

PLAIN: Final[tuple[Part, ...]] = (("body", _ring(8, 0.9, turn=math.pi / 8)),)
"""Of a type that has no shape of its own yet."""


def silhouette(name: str) -> tuple[Part, ...]:
    """The parts of a unit type's shape.

    Example:
        >>> [tone for tone, _ in silhouette("marine")]
        ['limb', 'body']
    """
    return SILHOUETTES.get(name, PLAIN)
