"""Which part of a map a picture shows, and where in it a place lies."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from qmix_lightning.envs.battle.viewer.recording import Recording

MARGIN = 1.6
"""Cells around the units that are shown."""

SMALLEST = (13.0, 8.0)
"""Cells that are shown at the least."""

WIDEST, HIGHEST = 2.4, 1.25
"""Limits of width by height."""


@dataclass(frozen=True)
class Camera:
    """A window over the map, north up.

    Args:
        west: Cell at the left edge.
        north: Cell at the upper edge of the field.
        scale: Pixels of a cell.
        width: Of the picture, in pixels.
        height: Of the field, in pixels.
        top: Pixels above the field.
    """

    west: float
    north: float
    scale: float
    width: int
    height: int
    top: int

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where cell ``(x, y)`` lies in the picture, in pixels from the left and from above.

        Example:
            >>> Camera(west=4, north=20, scale=30, width=600, height=400, top=40).place(5, 19.5)
            (30.0, 55.0)
        """
        return float((x - self.west) * self.scale), float(self.top + (self.north - y) * self.scale)

    def cell(self, across: float, down: float) -> tuple[float, float]:
        """Which place lies so many pixels from the left and from above: the inverse of :meth:`place`."""
        return self.west + across / self.scale, self.north - (down - self.top) / self.scale

    def magnified(self, times: int) -> Camera:
        """The same window on a finer picture."""
        return replace(
            self,
            scale=self.scale * times,
            width=self.width * times,
            height=self.height * times,
            top=self.top * times,
        )


def camera_over(recording: Recording, width: int, top: int) -> Camera:
    """Look at all places where a unit of the recording ever lived.

    Args:
        recording: The battle.
        width: Of the picture, in pixels.
        top: Pixels to leave above the field.

    Returns:
        A camera whose picture has an even height.
    """
    frames = recording.frames
    lives = frames["health"] > 0
    largest = max(kind.radius for kind in recording.kinds)
    x, y = frames["x"][lives], frames["y"][lives]
    west, east, south, north = x.min(), x.max(), y.min(), y.max()
    across, up = (
        max(span + 2 * (MARGIN + largest), least)
        for span, least in zip((east - west, north - south), SMALLEST, strict=True)
    )
    across, up = max(across, up * HIGHEST), max(up, across / WIDEST)
    across, up = float(across), float(up)
    scale = width / across
    height = round((up * scale + top) / 2) * 2 - top
    return Camera(
        west=float(np.float64(west + east) / 2 - across / 2),
        north=float(np.float64(south + north) / 2 + height / scale / 2),
        scale=scale,
        width=width,
        height=height,
        top=top,
    )
