"""The picture of all unit types in docs/watching.md: ``python -m tests.docs.legend`` draws it anew."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from qmix_lightning.envs.battle.viewer.captions import typeface
from qmix_lightning.envs.battle.viewer.colours import TEXT
from qmix_lightning.envs.battle.viewer.drawing import BattlePainter
from qmix_lightning.envs.battle.viewer.recording import Kind
from qmix_lightning.envs.battle.viewer.silhouettes import SILHOUETTES
from tests.envs.battle.viewer.drawn import recording, standing
from tests.training import ROOT

PATH = ROOT / "docs/images/battle-units.png"

_COLUMNS = 5


def legend() -> Image.Image:
    """Every unit type, of both teams, as large as the others, with its name."""
    shields, healers = {"stalker", "zealot", "colossus"}, {"medivac"}
    kinds = [
        Kind(name, 1.0, 0.0, 100.0, shield=60.0 * (name in shields), energy=200.0 * (name in healers))
        for name in SILHOUETTES
    ]
    n = len(kinds)
    places = [(4.0 + 5.4 * (k % _COLUMNS), 16.0 - 4.0 * (k // _COLUMNS)) for k in range(n)]
    agents, enemies = ([(kind, x + dx, y) for kind, (x, y) in zip(kinds, places, strict=True)] for dx in (0, 2.5))
    frames = standing(*agents, *enemies)
    frames["health"] *= np.tile(np.linspace(1, 0.55, n), 2).astype(np.float32)
    frames["shield"] *= 0.7
    frames["energy"] *= 0.4
    frames["target"] = [*range(n, 2 * n), *range(n)]
    battle = recording(frames, tuple(kinds), n_agents=n, walkable=np.ones((32, 32), dtype=bool))
    painter = BattlePainter(battle, width=960, orders=False)
    picture = painter.paint(0)
    for kind, (x, y) in zip(kinds, places, strict=True):
        at = painter.camera.place(x + 1.25, y - 1.75)
        ImageDraw.Draw(picture).text(at, kind.name.replace("_", " "), fill=TEXT, font=typeface(17), anchor="mm")
    upper, lower = (round(painter.camera.place(0, y)[1]) for y in (17.9, 9.5))
    return picture.crop((0, upper, picture.width, lower)).quantize(128, dither=Image.Dither.NONE)


if __name__ == "__main__":
    legend().save(PATH, optimize=True)
