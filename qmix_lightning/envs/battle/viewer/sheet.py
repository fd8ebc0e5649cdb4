"""What is drawn on: a picture in the making, in whose coordinates cells are places."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from PIL.ImageDraw import ImageDraw

from qmix_lightning.envs.battle.viewer.camera import Camera
from qmix_lightning.envs.battle.viewer.colours import Colour
from qmix_lightning.envs.battle.viewer.silhouettes import Point

Place = tuple[float, float]


@dataclass(frozen=True)
class Sheet:
    """Draws on a picture that blends what is not opaque; lengths are cells unless they are said to be pixels.

    Args:
        draw: On the picture, in mode RGBA.
        camera: Its window.
        pixel: How many of its pixels become one when it is reduced.
    """

    draw: ImageDraw
    camera: Camera
    pixel: int

    def disc(self, at: Place, radius: float, colour: Colour, alpha: float = 1.0) -> None:
        """Fill a circle."""
        self.draw.circle(self.camera.place(*at), radius * self.camera.scale, fill=_blended(colour, alpha))

    def arc(self, at: Place, radius: float, share: float, colour: Colour, *, pixels: float, alpha: float = 1.0) -> None:
        """Draw a share of a circle, clockwise from the north, its outer edge at the radius."""
        (x, y), r = self.camera.place(*at), radius * self.camera.scale
        box, width = (x - r, y - r, x + r, y + r), max(round(pixels * self.pixel), 1)
        if share > 0:
            self.draw.arc(box, -90, -90 + 360 * min(share, 1.0), fill=_blended(colour, alpha), width=width)

    def polygon(self, points: Iterable[Place], colour: Colour, alpha: float = 1.0) -> None:
        """Fill a polygon."""
        self.draw.polygon([self.camera.place(*point) for point in points], fill=_blended(colour, alpha))

    def line(self, start: Place, end: Place, colour: Colour, *, pixels: float, alpha: float = 1.0) -> None:
        """Draw a straight line."""
        ends = [self.camera.place(*start), self.camera.place(*end)]
        self.draw.line(ends, fill=_blended(colour, alpha), width=max(round(pixels * self.pixel), 1))


def placed(points: Iterable[Point], at: Place, size: float, facing: float) -> list[Place]:
    """Turn, enlarge and move points.

    Example:
        >>> [(round(x, 3), round(y, 3)) for x, y in placed([(1.0, 0.0)], (5.0, 5.0), 2.0, math.pi / 2)]
        [(5.0, 7.0)]
    """
    cos, sin = size * math.cos(facing), size * math.sin(facing)
    return [(at[0] + x * cos - y * sin, at[1] + x * sin + y * cos) for x, y in points]


def between(start: Place, end: Place, share: float) -> Place:
    """The place a share of the way from one place to another."""
    return start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share


def _blended(colour: Colour, alpha: float) -> tuple[int, int, int, int]:
    return (*colour, round(255 * min(max(alpha, 0.0), 1.0)))
