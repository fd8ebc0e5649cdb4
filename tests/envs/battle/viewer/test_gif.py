from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from qmix_lightning.envs.battle.viewer.colours import ALLY, ENEMY, GROUND, WALL
from qmix_lightning.envs.battle.viewer.drawing import BattlePainter
from qmix_lightning.envs.battle.viewer.gif import gif_of
from qmix_lightning.envs.battle.viewer.reel import LINGERS_FOR, reel
from tests.envs.battle.viewer.drawn import MARINE, recording, standing


def opened(content):
    """Every frame of an animation, and for how long it is shown."""
    image, frames, durations = Image.open(BytesIO(content)), [], []
    for number in range(image.n_frames):
        image.seek(number)
        frames.append(image.convert("RGB"))
        durations.append(image.info["duration"])
    return frames, durations, image.info


def walk(loops=16):
    frames = standing((MARINE, 12, 16), (MARINE, 19, 16), loops=loops)
    frames["x"][:, 0] += 0.14 * np.arange(loops + 1)
    return BattlePainter(recording(frames), width=320)


def test_frames_and_durations_come_back_and_the_animation_repeats():
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200)]
    frames, durations, info = opened(gif_of([Image.new("RGB", (40, 24), c) for c in colours], [80, 120, 1000]))
    assert [frame.getpixel((20, 12)) for frame in frames] == colours
    assert durations == [80, 120, 1000]
    assert info["loop"] == 0


def test_a_battle_is_as_long_as_in_the_game_and_its_end_stays():
    pictures, milliseconds = reel(walk())
    assert len(pictures) == len(range(0, 32, 2)) + 1
    assert milliseconds == [90] * 16 + [LINGERS_FOR]
    frames, durations, _ = opened(gif_of(pictures, milliseconds))
    assert sum(durations) == sum(milliseconds)  # frames that are alike become one
    assert len(frames) >= 8


def test_every_so_many_loops_are_shown_for_as_long():
    pictures, milliseconds = reel(walk(), every=8)
    assert len(pictures) == 5
    assert milliseconds[0] == round(8 / 22.4 * 100) * 10


def test_few_colours_are_enough():
    painter = walk()
    pictures, milliseconds = reel(painter)
    frames, _, _ = opened(gif_of(pictures, milliseconds))
    first = frames[0]
    assert len(first.getcolors(999)) <= 64
    for colour in (ALLY, ENEMY, GROUND, WALL):
        assert min(max(abs(a - b) for a, b in zip(c, colour, strict=True)) for _, c in first.getcolors(999)) <= 12


@pytest.mark.parametrize(("frames", "durations"), [(0, 0), (2, 1)])
def test_frames_without_durations_are_refused(frames, durations):
    with pytest.raises(ValueError, match=f"Expected frames and a duration for each, got {frames} and {durations}"):
        gif_of([Image.new("RGB", (8, 8))] * frames, [80] * durations)


def test_a_reel_of_no_loops_is_refused():
    with pytest.raises(ValueError, match="every counts game loops and must be positive, got 0"):
        reel(walk(), every=0)
