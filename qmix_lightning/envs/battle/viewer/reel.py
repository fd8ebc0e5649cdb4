"""A battle as a series of pictures: which moments are shown, and for how long."""

from __future__ import annotations

from PIL import Image

from qmix_lightning.envs.battle.viewer.drawing import BattlePainter

LOOPS_A_SECOND = 22.4
"""Game loops of a second, at the speed that the game calls "faster"."""

LINGERS_FOR = 2_500
"""Milliseconds for which the end stays."""


def reel(painter: BattlePainter, every: int = 2) -> tuple[list[Image.Image], list[int]]:
    """Draw a battle from its start to its end, at the speed of the game.

    Args:
        painter: Who draws.
        every: Game loops from one picture to the next.

    Returns:
        The pictures, and the milliseconds for which each is shown: whole hundredths of a second, as GIF counts.

    Raises:
        ValueError: If ``every`` is not positive.
    """
    if every < 1:
        raise ValueError(f"every counts game loops and must be positive, got {every}.")
    loops = [*range(0, painter.last, every), painter.last]
    pictures = [painter.paint(loop) for loop in loops]
    return pictures, [round(every * 100 / LOOPS_A_SECOND) * 10] * (len(loops) - 1) + [LINGERS_FOR]
