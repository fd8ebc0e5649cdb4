"""Battles as animated GIFs, of few colours and small."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

from PIL import Image

COLOURS = 63
"""In the palette that all frames of an animation share."""

_LOOKED_AT = 8
"""Frames that the palette is chosen from, evenly spread."""


def gif_of(frames: Sequence[Image.Image], milliseconds: Sequence[int]) -> bytes:
    """Make an animation that repeats for ever.

    Args:
        frames: Pictures of the same size.
        milliseconds: For which each is shown; GIF counts in tens of them.

    Returns:
        The file's content.

    Raises:
        ValueError: If there are no frames, or not as many durations.

    Example:
        >>> gif_of([Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")], [80, 80])[:6]
        b'GIF89a'
    """
    if not frames or len(frames) != len(milliseconds):
        raise ValueError(f"Expected frames and a duration for each, got {len(frames)} and {len(milliseconds)}.")
    some = frames[:: -(-len(frames) // _LOOKED_AT)][:_LOOKED_AT]
    width, height = frames[0].size
    sample = Image.new("RGB", (width, height * (len(some) + 1)))
    for row, frame in enumerate([*some, frames[-1]]):
        sample.paste(frame, (0, row * height))
    palette = sample.quantize(COLOURS, Image.Quantize.MEDIANCUT)
    reduced = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    content = BytesIO()
    reduced[0].save(
        content,
        "GIF",
        save_all=True,
        append_images=reduced[1:],
        duration=list(milliseconds),
        loop=0,
        optimize=True,
        disposal=1,
    )
    return content.getvalue()
