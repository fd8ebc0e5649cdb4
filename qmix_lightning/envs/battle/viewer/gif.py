"""Battles as animated GIFs, of few colours and small."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from itertools import pairwise

from PIL import Image, ImageChops

COLOURS = 63
"""In the palette that all frames of an animation share."""

_TRANSPARENT = COLOURS

_LOOKED_AT = 8
"""Frames that the palette is chosen from, evenly spread, and the last."""


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
    palette = _sample(frames).quantize(COLOURS, Image.Quantize.MEDIANCUT)
    reduced = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    told = [reduced[0], *(_changes(frame, before) for before, frame in pairwise(reduced))]
    table = bytes((palette.getpalette() or [])[: 3 * COLOURS]) + bytes(3)
    for frame in told:
        frame.putpalette(table)
    content = BytesIO()
    told[0].save(
        content, "GIF", save_all=True, append_images=told[1:], duration=list(milliseconds), loop=0, palette=table,
        transparency=_TRANSPARENT, optimize=False, disposal=1,
    )  # fmt: skip
    return content.getvalue()


def _sample(frames: Sequence[Image.Image]) -> Image.Image:
    """Some frames side by side, of which every second pixel is enough to choose colours."""
    some = [*frames[:: -(-len(frames) // _LOOKED_AT)], frames[-1]]
    width, height = (-(-length // 2) for length in frames[0].size)
    sample = Image.new("RGB", (width * len(some), height))
    for column, frame in enumerate(some):
        sample.paste(frame.resize((width, height), Image.Resampling.NEAREST), (column * width, 0))
    return sample


def _changes(frame: Image.Image, before: Image.Image) -> Image.Image:
    """A frame that lets the one before shine through where nothing changes, which is most of it."""
    same = ImageChops.subtract_modulo(frame, before).point([255] + [0] * 255, "1")
    changes = frame.copy()
    changes.paste(_TRANSPARENT, mask=same)
    return changes
