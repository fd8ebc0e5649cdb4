"""Battles as a page that plays them in any browser, with everything it needs inside."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmix_lightning.envs.battle.viewer.bodies import BODY, BURSTS_FOR, FADES_FOR, SHADES
from qmix_lightning.envs.battle.viewer.camera import camera_over
from qmix_lightning.envs.battle.viewer.colours import PALETTE
from qmix_lightning.envs.battle.viewer.drawing import AFTER_THE_END
from qmix_lightning.envs.battle.viewer.events import deaths_of, facing_of, healing_of, shots_of
from qmix_lightning.envs.battle.viewer.marks import CROWD, GLOWS_FOR
from qmix_lightning.envs.battle.viewer.recording import SWUNG, Recording
from qmix_lightning.envs.battle.viewer.silhouettes import silhouette

_FIELDS = {
    "x": ("u16", 512), "y": ("u16", 512), "health": ("u16", 64), "shield": ("u16", 64), "energy": ("u16", 64),
    "goal_x": ("u16", 512), "goal_y": ("u16", 512), "target": ("i16", 1), "order": ("i8", 1),
}  # fmt: skip
"""What is told of a unit, as which type, and how many parts a whole has in it."""

_TYPES = {"u16": "<u2", "i16": "<i2", "i8": "<i1"}


def html_of(recordings: Sequence[Recording]) -> str:
    """Make a page with a slider, play and pause, and keys, which shows battles.

    Args:
        recordings: The battles, of which the page lets one choose.

    Returns:
        The file's content. It asks no network for anything.

    Raises:
        ValueError: If there are no battles.

    Example:
        >>> from qmix_lightning.envs.battle.viewer.recording import SHOWN, Kind
        >>> frames = np.zeros((9, 2), SHOWN)
        >>> frames["health"] = 45
        >>> ground = np.ones((32, 32), dtype=bool)
        >>> battle = Recording("1m", "us", (Kind("marine", 0.375, 5, 45),), 1, ground, frames, np.zeros(1), "lost")
        >>> html_of([battle]).splitlines()[0]
        '<!doctype html>'
    """
    if not recordings:
        raise ValueError("Expected at least one battle to show, got none.")
    told = {
        "colours": PALETTE, "after": AFTER_THE_END, "glows": GLOWS_FOR, "fades": FADES_FOR, "bursts": BURSTS_FOR,
        "swung": SWUNG, "crowd": CROWD,
        "body": BODY,
        "battles": [_told(recording) for recording in recordings],
    }  # fmt: skip
    page, style, script = (_read(f"page.{ending}") for ending in ("html", "css", "js"))
    for name, tint in PALETTE.items():
        style = style.replace(f": {name};", f": rgb{tint};")
    # Whatever a battle is called, it cannot end the element that tells of it.
    data = json.dumps(told, separators=(",", ":")).replace("<", "\\u003c")
    title = f"{recordings[0].title}, played by {recordings[0].team}"
    title = title.replace("&", "&amp;").replace("<", "&lt;")
    for name, content in (("TITLE", title), ("STYLE", style), ("SCRIPT", script), ("BATTLES", data)):
        page = page.replace(f">{name}<", f">{content}<", 1)
    return page


def _told(recording: Recording) -> dict[str, Any]:
    camera = camera_over(recording, 640, 0)
    # Every second game loop will do; between, the page draws units on their way.
    stride = 2 if recording.loops % 2 == 0 else 1
    frames = recording.frames[::stride]
    facing = facing_of(recording.frames, recording.n_agents)[::stride]
    heals, deaths = healing_of(recording.frames)[::stride], deaths_of(recording.frames)
    fields = {name: _packed(frames[name], *how) for name, how in _FIELDS.items()}
    shots = shots_of(recording.frames, recording.kinds)
    return {
        "title": recording.title, "team": recording.team, "outcome": recording.outcome, "agents": recording.n_agents,
        "loops": recording.loops, "step_loops": recording.step_loops, "stride": stride,
        "rewards": [round(float(reward), 4) for reward in recording.rewards],
        "kind": recording.frames["kind"][0].tolist(),
        "kinds": [
            {**vars(kind), "parts": [(SHADES[tone], _rounded(points)) for tone, points in silhouette(kind.name)]}
            for kind in recording.kinds
        ],
        "smallest": min(kind.radius for kind in recording.kinds),
        "west": camera.west, "north": camera.north,
        "across": camera.width / camera.scale, "up": camera.height / camera.scale,
        "walkable": ["".join("01"[cell] for cell in column) for column in recording.walkable.astype(int)],
        "fields": {**fields, "facing": _packed(facing, "i16", 8192), "heals": _packed(heals, "i8", 1)},
        "deaths": np.where(deaths <= recording.loops, deaths, -1).tolist(),
        "shots": _base64(np.stack([shots[name] for name in shots.dtype.names or ()], 1).astype("<i4")),
    }  # fmt: skip


def _packed(values: NDArray[Any], kind: str, parts: int) -> dict[str, Any]:
    dtype = np.dtype(_TYPES[kind])
    limits = np.iinfo(dtype)
    whole = np.clip(np.round(values.astype(np.float64) * parts), limits.min, limits.max).astype(dtype)
    return {"type": kind, "by": parts, "data": _base64(whole)}


def _base64(values: NDArray[Any]) -> str:
    return b64encode(values.tobytes()).decode()


def _rounded(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(round(x, 3), round(y, 3)) for x, y in points]


def _read(name: str) -> str:
    return (files(__package__) / "page" / name).read_text(encoding="utf-8")
