"""What is written over a battle: who is left, how far it is, and how it ended."""

from __future__ import annotations

from functools import cache

from PIL.ImageFont import FreeTypeFont, load_default

from qmix_lightning.envs.battle.viewer.colours import ALLY, ENEMY, FAINT, GRID, INK, TEAMS, TEXT, WALL, blend
from qmix_lightning.envs.battle.viewer.recording import Recording
from qmix_lightning.envs.battle.viewer.sheet import Sheet

HEADER = 46
"""Pixels above the field, in a picture of 640."""

_BANNERS = {"won": ("VICTORY", ALLY), "lost": ("DEFEAT", ENEMY), "out of time": ("OUT OF TIME", TEXT)}


@cache
def typeface(size: float) -> FreeTypeFont:
    """The typeface that Pillow brings along, which looks the same on every machine."""
    font = load_default(size)
    if not isinstance(font, FreeTypeFont):
        raise RuntimeError(
            "Expected Pillow to be built with FreeType, which writes text, got one without. Install Pillow from PyPI:"
            " pip install --force-reinstall pillow"
        )
    return font


def draw_header(sheet: Sheet, recording: Recording, loop: int) -> None:
    """Draw the strip above the field: each team's health as a bar, how many live, and the step."""
    camera, draw, n = sheet.camera, sheet.draw, recording.n_agents
    unit, width = camera.top / HEADER, camera.width
    draw.rectangle((0, 0, width, camera.top), fill=WALL)
    large, small = typeface(15 * unit), typeface(11 * unit)
    units = recording.frames[loop]
    full = [recording.kinds[kind].health + recording.kinds[kind].shield for kind in recording.frames["kind"][0]]
    for team, name in enumerate((recording.team, "built-in AI")):
        members, most = (units[:n], sum(full[:n])) if team == 0 else (units[n:], sum(full[n:]))
        left = float((members["health"] + members["shield"]).sum()) / most
        alive = int((members["health"] > 0).sum())
        near, far = (14 * unit, 0.42 * width) if team == 0 else (width - 14 * unit, 0.58 * width)
        tip, (top, bottom) = near + (far - near) * left, (28 * unit, 36 * unit)
        draw.rounded_rectangle((min(near, far), top, max(near, far), bottom), 4 * unit, fill=GRID)
        if left > 0:
            ends = (min(near, tip), max(near, tip, min(near, tip) + 8 * unit))
            draw.rounded_rectangle((ends[0], top, ends[1], bottom), 4 * unit, fill=TEAMS[team])
        side, out = ("l", 1) if team == 0 else ("r", -1)
        draw.text((near, 14 * unit), name, fill=TEAMS[team], font=large, anchor=f"{side}m")
        beside = near + out * (large.getlength(name) + 9 * unit)
        draw.text((beside, 15 * unit), f"{alive} of {len(members)}", fill=TEXT, font=small, anchor=f"{side}m")
    step = min(-(-loop // recording.step_loops), recording.steps)
    draw.text((width / 2, 14 * unit), recording.title, fill=TEXT, font=large, anchor="mm")
    draw.text((width / 2, 32 * unit), f"step {step}", fill=FAINT, font=small, anchor="mm")
    draw.rectangle((0, camera.top - 2 * unit, width, camera.top), fill=GRID)
    draw.rectangle((0, camera.top - 2 * unit, width * loop / max(recording.loops, 1), camera.top), fill=FAINT)


def draw_banner(sheet: Sheet, recording: Recording, share: float) -> None:
    """Draw how it ended across the field, faded in by a share."""
    camera, draw = sheet.camera, sheet.draw
    word, colour = _BANNERS[recording.outcome]
    unit, middle = camera.top / HEADER, camera.top + camera.height / 2
    draw.rectangle((0, middle - 38 * unit, camera.width, middle + 38 * unit), fill=(*INK, round(205 * share)))
    for edge in (-38 * unit, 36 * unit):
        draw.rectangle((0, middle + edge, camera.width, middle + edge + 2 * unit), fill=(*colour, round(255 * share)))
    alive = int((recording.frames["health"][-1, : recording.n_agents] > 0).sum())
    said = f"{recording.steps} steps  ·  {alive} of {recording.n_agents} alive  ·  return {recording.rewards.sum():.1f}"
    spelt = blend(colour, (255, 255, 255), 0.1)
    large, small = typeface(30 * unit), typeface(13 * unit)
    at = camera.width / 2
    draw.text((at, middle - 11 * unit), word, fill=(*spelt, round(255 * share)), font=large, anchor="mm")
    draw.text((at, middle + 20 * unit), said, fill=(*TEXT, round(255 * share)), font=small, anchor="mm")
