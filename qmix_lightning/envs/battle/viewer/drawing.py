"""A battle drawn, at any moment: smooth pictures by drawing larger and reducing."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from qmix_lightning.envs.battle.viewer.bodies import draw_dead, draw_unit
from qmix_lightning.envs.battle.viewer.camera import Camera, camera_over
from qmix_lightning.envs.battle.viewer.captions import HEADER, draw_banner, draw_header, typeface
from qmix_lightning.envs.battle.viewer.colours import EDGE, GRID, GROUND, TEAMS, WALL
from qmix_lightning.envs.battle.viewer.events import deaths_of, facing_of, healing_of, shots_of
from qmix_lightning.envs.battle.viewer.marks import CROWD, GLOWS_FOR, draw_healing, draw_order, draw_ranges, draw_shot
from qmix_lightning.envs.battle.viewer.recording import SWUNG, Recording
from qmix_lightning.envs.battle.viewer.sheet import Sheet

AFTER_THE_END = 16
"""Game loops that are drawn after a battle's last: the dead fade, and a banner says how it ended."""


class BattlePainter:
    """Draws the moments of one battle, all through the same window.

    Args:
        recording: The battle.
        width: Of the pictures, in pixels.
        detail: How many times larger, along each axis, they are drawn before they are reduced; 1 leaves steps on edges.
        ranges: Whether the ground that weapons reach is tinted.
        orders: Whether lines show where units are going and whom they attack.

    Attributes:
        size: Width and height of the pictures.
        camera: Where in them a place lies.

    Raises:
        ValueError: If ``width`` is less than 64 or odd, or ``detail`` is not positive.

    Example:
        >>> from qmix_lightning.envs.battle.viewer.recording import SHOWN, Kind
        >>> frames = np.zeros((9, 2), SHOWN)
        >>> frames["health"], frames["x"], frames["y"] = 45, [10, 14], 16
        >>> ground = np.ones((32, 32), dtype=bool)
        >>> battle = Recording("1m", "us", (Kind("marine", 0.375, 5, 45),), 1, ground, frames, np.zeros(1), "lost")
        >>> BattlePainter(battle, width=320).paint(3).size
        (320, 230)
    """

    def __init__(
        self, recording: Recording, *, width: int = 640, detail: int = 3, ranges: bool = True, orders: bool = True
    ) -> None:
        if width < 64 or width % 2:
            raise ValueError(f"width must be even and at least 64 pixels, got {width}.")
        if detail < 1:
            raise ValueError(f"detail must be at least 1, got {detail}.")
        self.recording, self.detail, self.ranges, self.orders = recording, detail, ranges, orders
        # What is written over a small picture must still be read.
        camera = camera_over(recording, width, round(HEADER * max(width / 640, 0.75)))
        self.size = (camera.width, camera.top + camera.height)
        self.camera, self._large, self._ground = camera, camera.magnified(detail), _ground(recording, camera)
        self._team = (np.arange(recording.frames.shape[1]) >= recording.n_agents).astype(int).tolist()
        self._shots = shots_of(recording.frames, recording.kinds)
        self._healing = healing_of(recording.frames)
        self._deaths = deaths_of(recording.frames)
        self._facing = facing_of(recording.frames, recording.n_agents)
        smallest = min(kind.radius for kind in recording.kinds)
        self._font = typeface(max(smallest * self._large.scale, 1.0))

    @property
    def last(self) -> int:
        """The last game loop that is worth drawing."""
        return self.recording.loops + AFTER_THE_END

    def paint(self, loop: int) -> Image.Image:
        """Draw the battle after so many game loops.

        Args:
            loop: From 0; after the battle's end the dead go on fading and a banner says how it ended.

        Returns:
            The picture, in mode RGB.
        """
        recording = self.recording
        now = min(max(loop, 0), recording.loops)
        units, ground = recording.frames[now], self._ground.copy()
        if self.ranges:
            for team in (1, 0):
                draw_ranges(ground, self._large, self.detail, self._reaches(now, team), TEAMS[team])
        picture = ground.resize((self._large.width, self._large.top + self._large.height), Image.Resampling.NEAREST)
        sheet = Sheet(ImageDraw.Draw(picture, "RGBA"), self._large, self.detail)
        living = [i for i in range(len(units)) if units["health"][i] > 0]
        upwards = sorted(living, key=lambda i: recording.kinds[units["kind"][i]].level)
        for i in range(len(units)):
            if loop >= self._deaths[i]:
                self._draw_dead(sheet, i, now, int(loop - self._deaths[i]))
        if self.orders and loop <= recording.loops:
            strength = min(1.0, (CROWD / max(len(living), 1)) ** 0.5)
            for i in living:
                draw_order(sheet, units[i], units, self._team[i], strength)
        for i in upwards:
            kind, team, facing = recording.kinds[units["kind"][i]], self._team[i], float(self._facing[now, i])
            draw_unit(sheet, units[i], kind, team, facing, "" if team else str(i), self._font)
        for i in np.flatnonzero(self._healing[now]).tolist():
            draw_healing(sheet, units[i], units)
        recent = self._shots[(self._shots["start"] <= loop) & (loop < self._shots["end"] + GLOWS_FOR)]
        for shot in recent:
            draw_shot(sheet, shot, loop, units, recording.kinds, self._team[shot["shooter"]])
        draw_header(sheet, recording, now)
        if loop > recording.loops:
            draw_banner(sheet, recording, min((loop - recording.loops) / (0.6 * AFTER_THE_END), 1.0))
        return picture.reduce(self.detail) if self.detail > 1 else picture

    def _draw_dead(self, sheet: Sheet, i: int, now: int, since: int) -> None:
        unit = self.recording.frames[now, i]
        at, kind = (float(unit["x"]), float(unit["y"])), self.recording.kinds[unit["kind"]]
        draw_dead(sheet, at, kind, self._team[i], float(self._facing[now, i]), since)

    def _reaches(self, now: int, team: int) -> list[tuple[tuple[float, float], float]]:
        reaches = []
        for i, unit in enumerate(self.recording.frames[now]):
            kind = self.recording.kinds[unit["kind"]]
            if self._team[i] == team and unit["health"] > 0 and kind.range >= SWUNG:
                reaches.append(((float(unit["x"]), float(unit["y"])), kind.radius + kind.range))
        return reaches


def _ground(recording: Recording, camera: Camera) -> Image.Image:
    """The map within a window: cells, their grid, and an edge where the walkable ends."""
    picture = Image.new("RGB", (camera.width, camera.top + camera.height), WALL)
    draw, walkable = ImageDraw.Draw(picture), np.pad(recording.walkable, 1)
    edges: dict[bool, list[tuple[float, ...]]] = {True: [], False: []}
    inside = np.zeros_like(recording.walkable)
    first, end = camera.cell(0, picture.height), camera.cell(picture.width, camera.top)
    inside[max(int(first[0]), 0) : int(end[0]) + 1, max(int(first[1]), 0) : int(end[1]) + 1] = True
    for x, y in np.argwhere(recording.walkable & inside).tolist():
        (west, north), (east, south) = camera.place(x, y + 1), camera.place(x + 1, y)
        draw.rectangle((round(west), round(north), round(east) - 1, round(south) - 1), fill=GROUND)
        edges[bool(walkable[x + 1, y])].append((west, south, east, south))
        edges[bool(walkable[x + 1, y + 2])].append((west, north, east, north))
        edges[bool(walkable[x, y + 1])].append((west, south, west, north))
        edges[bool(walkable[x + 2, y + 1])].append((east, south, east, north))
    for inner, colour, width in ((True, GRID, 1), (False, EDGE, 2)):
        for edge in edges[inner]:
            draw.line([round(end) for end in edge], fill=colour, width=width)
    return picture
