"""Battles as MP4 files, by whatever encoder is there."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from PIL import Image


def encoder() -> str:
    """Find ffmpeg: on the path of this machine, or in the package imageio-ffmpeg.

    Raises:
        ImportError: If there is none; says how to get one.
    """
    if found := shutil.which("ffmpeg"):
        return found
    if find_spec("imageio_ffmpeg") is not None:
        try:
            return str(import_module("imageio_ffmpeg").get_ffmpeg_exe())
        except RuntimeError:  # The package is there, but not for this kind of machine.
            pass
    raise ImportError(
        "MP4 needs an encoder, ffmpeg, and none was found. Install one: pip install 'qmix-lightning[video]', or your"
        " system's package ffmpeg; or take a .gif or .html, which need none."
    )


def write_mp4(path: Path, pictures: Iterable[Image.Image], *, size: tuple[int, int], rate: float) -> None:
    """Write pictures as an MP4 file (H.264), which must not exist.

    Args:
        path: Of the file.
        pictures: Of one even size, in mode RGB.
        size: Their width and height.
        rate: How many are shown in a second.

    Raises:
        ImportError: If there is no encoder.
        FileExistsError: If there is such a file.
        OSError: If the encoder fails; with its own words.
    """
    format_in = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{size[0]}x{size[1]}", "-r", f"{rate}", "-i", "-"]
    format_out = ["-an", "-c:v", "libx264", "-crf", "18", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    command = [encoder(), "-y", "-loglevel", "error", *format_in, *format_out, str(path)]
    path.touch(exist_ok=False)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None, "It was asked for."
        with suppress(BrokenPipeError):  # It has given up, and says why.
            for picture in pictures:
                process.stdin.write(picture.tobytes())
        _, said = process.communicate()
    if process.returncode:
        path.unlink()
        raise OSError(f"The encoder {command[0]} could not write {path}: {said.decode(errors='replace').strip()}")
