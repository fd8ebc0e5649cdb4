"""What units do, drawn: how far weapons reach, where orders lead, and shots."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from PIL import Image, ImageDraw

from qmix_lightning.envs.battle.state import ATTACK, MOVE, NOBODY
from qmix_lightning.envs.battle.viewer.camera import Camera
from qmix_lightning.envs.battle.viewer.colours import HEAL, SPARK, TEAMS, Colour, blend
from qmix_lightning.envs.battle.viewer.recording import Kind
from qmix_lightning.envs.battle.viewer.sheet import Place, Sheet, between

CROWD = 20
"""Living units from which on the lines of their orders grow fainter."""

GLOWS_FOR = 4
"""Game loops in which a shot is seen after it has hit."""


def draw_ranges(
    picture: Image.Image, camera: Camera, detail: int, reaches: Iterable[tuple[Place, float]], colour: Colour
) -> None:
    """Tint the ground that a team's weapons reach, and draw its outline.

    Args:
        picture: To be drawn on, already of its final size.
        camera: Of a picture ``detail`` times as large, on which the outline is drawn.
        detail: How many times.
        reaches: Where each unit stands, and how far from its centre its weapon reaches.
        colour: Of the team.
    """
    size = (picture.width * detail, picture.height * detail)
    tint, within = Image.new("L", size), Image.new("1", size)
    disc, hollow = ImageDraw.Draw(tint).circle, ImageDraw.Draw(within).circle
    for at, reach in reaches:
        centre, radius = camera.place(*at), reach * camera.scale
        disc(centre, radius, fill=92)
        hollow(centre, radius - 1.2 * detail, fill=1)
    # Inside of all outlines there is only a tint.
    tint.paste(13, mask=within)
    picture.paste(colour, mask=tint.reduce(detail) if detail > 1 else tint)


def draw_order(sheet: Sheet, unit: Any, units: Any, team: int, strength: float) -> None:
    """Draw where a unit is going, or whom it attacks, with a share of the full strength."""
    at, colour = (float(unit["x"]), float(unit["y"])), TEAMS[team]
    if unit["target"] != NOBODY and units[unit["target"]]["health"] > 0:
        target = units[unit["target"]]
        end = (float(target["x"]), float(target["y"]))
        sheet.line(at, end, colour, pixels=1.2, alpha=strength * (0.38 if unit["order"] == ATTACK or team else 0.25))
    elif unit["order"] == MOVE:
        end = (float(unit["goal_x"]), float(unit["goal_y"]))
        sheet.line(at, end, colour, pixels=1.4, alpha=0.55)
        _chevron(sheet, at, end, colour)


def draw_healing(sheet: Sheet, unit: Any, units: Any) -> None:
    """Draw that a unit heals its target: a soft beam."""
    target = units[unit["target"]]
    start, end = (float(unit["x"]), float(unit["y"])), (float(target["x"]), float(target["y"]))
    sheet.line(start, end, HEAL, pixels=5, alpha=0.25)
    sheet.line(start, end, HEAL, pixels=1.6, alpha=0.9)


def draw_shot(sheet: Sheet, shot: Any, loop: int, units: Any, kinds: tuple[Kind, ...], team: int) -> None:
    """Draw an attack as it looks in a game loop: under way, or a spark that fades."""
    shooter, target = units[shot["shooter"]], units[shot["target"]]
    gun, hit = kinds[shooter["kind"]], kinds[target["kind"]]
    start, end = (float(shooter["x"]), float(shooter["y"])), (float(target["x"]), float(target["y"]))
    length = max(math.dist(start, end), 1e-6)
    muzzle = between(start, end, min(gun.radius / length, 1.0))
    share = (loop - shot["start"]) / max(shot["end"] - shot["start"], 1)
    left = 1 - max(loop - shot["end"], 0) / GLOWS_FOR
    if gun.attack == "missile" and loop < shot["end"]:
        _draw_missile(sheet, muzzle, end, share, team)
        return
    if gun.attack == "beams":
        _draw_beams(sheet, start, end, gun.sweep, min(share, 1.0), left, team)
        return
    edge = between(end, start, min(hit.radius * 0.8 / length, 1.0))
    if gun.attack == "shot":
        _draw_ray(sheet, muzzle, edge, left, team)
    sheet.disc(edge, 0.08 + 0.12 * (1 - left), SPARK, 0.9 * left)


def _draw_ray(sheet: Sheet, start: Place, end: Place, alpha: float, team: int) -> None:
    sheet.line(start, end, TEAMS[team], pixels=3.6, alpha=0.35 * alpha)
    sheet.line(start, end, blend(TEAMS[team], SPARK, 0.6), pixels=1.5, alpha=alpha)


def _draw_missile(sheet: Sheet, start: Place, end: Place, share: float, team: int) -> None:
    length = max(math.dist(start, end), 1e-6)
    nose, tail = between(start, end, share), between(start, end, max(share - min(0.9 / length, 1.0), 0.0))
    sheet.line(tail, nose, TEAMS[team], pixels=3.2, alpha=0.55)
    sheet.disc(nose, 0.16, blend(TEAMS[team], SPARK, 0.6))


def _draw_beams(sheet: Sheet, start: Place, end: Place, reach: float, share: float, left: float, team: int) -> None:
    """Two beams that sweep the line across the target from its ends, and what glows behind them."""
    length = max(math.dist(start, end), 1e-6)
    across = (end[1] - start[1]) / length * reach, (start[0] - end[0]) / length * reach
    for side in (1, -1):
        first = end[0] + side * across[0], end[1] + side * across[1]
        now = between(first, end, 2 * share)
        sheet.line(first, now, SPARK, pixels=3, alpha=0.7 * left)
        if left == 1:
            _draw_ray(sheet, start, now, 1.0, team)


def _chevron(sheet: Sheet, start: Place, end: Place, colour: Colour) -> None:
    angle, size = math.atan2(end[1] - start[1], end[0] - start[0]), 0.22
    for turn in (0.8, -0.8):
        arm = end[0] - size * math.cos(angle + turn), end[1] - size * math.sin(angle + turn)
        sheet.line(end, arm, colour, pixels=1.4, alpha=0.55)
