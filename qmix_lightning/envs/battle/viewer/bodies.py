"""Units as they are drawn: shape, number, rings of health and shield; and what is left of the dead."""

from __future__ import annotations

import math
from typing import Any

from PIL.ImageFont import FreeTypeFont

from qmix_lightning.envs.battle.viewer.colours import ENERGY, GROUND, INK, SHIELD, SPARK, TEAMS, TEXT, WALL, blend
from qmix_lightning.envs.battle.viewer.recording import Kind
from qmix_lightning.envs.battle.viewer.sheet import Place, Sheet, placed
from qmix_lightning.envs.battle.viewer.silhouettes import Tone, silhouette

BODY = 0.78
"""Share of a unit's radius that its shape fills; around it lie the rings."""

LEGIBLE = 8
"""Pixels of radius from which on a unit bears its number, in place of the marks on its body."""

FADES_FOR = 14
"""Game loops in which a dead unit fades."""

BURSTS_FOR = 7
"""Game loops in which a burst is seen."""

SHADES: dict[Tone, float] = {"body": 0.0, "limb": 0.38, "mark": 0.82}
"""How much ink is mixed into the team's colour."""


def draw_unit(sheet: Sheet, unit: Any, kind: Kind, team: int, facing: float, number: str, font: FreeTypeFont) -> None:
    """Draw a living unit.

    Args:
        sheet: Where.
        unit: A record of :data:`~qmix_lightning.envs.battle.viewer.recording.SHOWN`.
        kind: What it is.
        team: 0 for agents, 1 for enemies.
        facing: Where it looks, in radians.
        number: To write on it.
        font: To write it with.
    """
    at, colour = (float(unit["x"]), float(unit["y"])), TEAMS[team]
    radius, cell = kind.radius, sheet.camera.scale / sheet.pixel
    ring = max(min(2.2, 0.3 * radius * cell), 0.07 * cell)
    if kind.level:
        sheet.disc((at[0] + 0.12 * kind.level, at[1] - 0.18 * kind.level), radius, INK, 0.35)
    sheet.disc(at, radius, WALL, 0.75)
    health = float(unit["health"]) / kind.health
    sheet.arc(at, radius, 1.0, blend(colour, INK, 0.72), pixels=ring)
    sheet.arc(at, radius, health, blend(colour, (255, 255, 255), 0.35), pixels=ring)
    for part, most, tint in ((unit["shield"], kind.shield, SHIELD), (unit["energy"], kind.energy, ENERGY)):
        if most > 0:
            outer = radius + (ring + 0.4) / cell
            sheet.arc(at, outer, float(part) / most, tint, pixels=0.9 * ring)
    legible = bool(number) and radius * cell >= LEGIBLE
    _shape(sheet, kind, at, BODY * radius, facing, team, marks=not legible)
    if legible:
        place, rim = sheet.camera.place(*at), round(0.8 * sheet.pixel)
        sheet.draw.text(place, number, fill=TEXT, font=font, anchor="mm", stroke_width=rim, stroke_fill=INK)


def draw_dead(sheet: Sheet, at: Place, kind: Kind, team: int, facing: float, since: int) -> None:
    """Draw a unit that died so many loops ago: it sinks and fades, and a cross stays on the ground."""
    gone = min(since / FADES_FOR, 1.0)
    tint, arm = blend(TEAMS[team], GROUND, 0.45 + 0.2 * gone), 0.42 * min(kind.radius, 0.6)
    for turn in (1, 3):
        dx, dy = arm * math.cos(turn * math.pi / 4), arm * math.sin(turn * math.pi / 4)
        sheet.line((at[0] - dx, at[1] - dy), (at[0] + dx, at[1] + dy), tint, pixels=1.6, alpha=0.9 * gone)
    if kind.burst and since < BURSTS_FOR:
        grown = ((since + 1) / BURSTS_FOR) ** 0.5
        sheet.disc(at, kind.burst * grown, TEAMS[team], 0.4 * (1 - since / BURSTS_FOR))
        sheet.arc(at, kind.burst * grown, 1.0, SPARK, pixels=1.6, alpha=0.9 * (1 - since / BURSTS_FOR))
    if gone < 1:
        sheet.arc(at, kind.radius * (1 + 0.9 * gone), 1.0, TEAMS[team], pixels=1.6, alpha=0.8 * (1 - gone))
        _shape(sheet, kind, at, BODY * kind.radius * (1 - 0.25 * gone), facing, team, alpha=(1 - gone) ** 1.5)


def _shape(
    sheet: Sheet,
    kind: Kind,
    at: Place,
    size: float,
    facing: float,
    team: int,
    *,
    alpha: float = 1.0,
    marks: bool = True,
) -> None:
    for tone, points in silhouette(kind.name):
        if tone == "mark" and not marks:
            continue
        colour = blend(TEAMS[team], INK, SHADES[tone])
        sheet.polygon(placed(points, at, size, facing), colour, alpha)
