"""The colours of pictures of battles: teams that the colour-blind can tell apart, on dark ground."""

from __future__ import annotations

from typing import Final

Colour = tuple[int, int, int]

ALLY: Final[Colour] = (86, 180, 233)
"""Sky blue. Okabe and Ito, "Color Universal Design", 2008."""
ENEMY: Final[Colour] = (240, 122, 36)
"""Their vermilion, lighter, since the ground is dark here."""
TEAMS: Final = (ALLY, ENEMY)

WALL: Final[Colour] = (15, 18, 23)
GROUND: Final[Colour] = (32, 38, 47)
GRID: Final[Colour] = (40, 47, 57)
EDGE: Final[Colour] = (67, 77, 91)
"""Of the ground, towards what cannot be walked on."""

SHIELD: Final[Colour] = (222, 208, 255)
ENERGY: Final[Colour] = (240, 228, 140)
HEAL: Final[Colour] = (120, 232, 180)
SPARK: Final[Colour] = (255, 244, 214)
INK: Final[Colour] = (13, 16, 20)
"""Of numbers and outlines on a unit."""
TEXT: Final[Colour] = (235, 239, 244)
FAINT: Final[Colour] = (138, 149, 163)

PALETTE: Final[dict[str, Colour]] = {
    "ALLY": ALLY, "ENEMY": ENEMY, "WALL": WALL, "GROUND": GROUND, "GRID": GRID, "EDGE": EDGE, "SHIELD": SHIELD,
    "ENERGY": ENERGY, "HEAL": HEAL, "SPARK": SPARK, "INK": INK, "TEXT": TEXT, "FAINT": FAINT,
}  # fmt: skip
"""All of them, by the names that the page knows them by."""


def blend(colour: Colour, other: Colour, share: float) -> Colour:
    """Mix a share of another colour into one.

    Example:
        >>> blend((0, 0, 0), (200, 100, 0), 0.5)
        (100, 50, 0)
    """
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(colour, other, strict=True))
    return red, green, blue
