import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from qmix_lightning.envs.battle.viewer.video import encoder, write_mp4


def ffmpeg():
    try:
        return encoder()
    except ImportError as error:
        pytest.skip(str(error))


def test_a_video_has_the_size_the_rate_and_the_pictures_that_it_was_made_of(tmp_path):
    program, path = ffmpeg(), tmp_path / "a.mp4"
    pictures = [Image.new("RGB", (64, 48), (12 * k, 100, 255 - 12 * k)) for k in range(20)]
    write_mp4(path, pictures, size=(64, 48), rate=22.4)
    read = [program, "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(read, capture_output=True)
    assert re.search(r"Video: h264 .* 64x48.* 22\.40? fps", done.stderr.decode())
    frames = np.frombuffer(done.stdout, np.uint8).reshape(-1, 48, 64, 3).astype(int)
    assert len(frames) == 20
    drawn = np.stack([np.asarray(picture) for picture in pictures]).astype(int)
    assert np.abs(frames - drawn).max() < 12


def test_a_file_that_is_there_is_not_written_over(tmp_path):
    ffmpeg()
    (tmp_path / "a.mp4").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"a\.mp4"):
        write_mp4(tmp_path / "a.mp4", [Image.new("RGB", (64, 48))], size=(64, 48), rate=10)
    assert (tmp_path / "a.mp4").read_bytes() == b"mine"


def test_what_the_encoder_has_to_say_is_passed_on_and_nothing_is_left(tmp_path):
    ffmpeg()
    odd = [Image.new("RGB", (63, 48))] * 50
    with pytest.raises(OSError, match=r"The encoder \S+ could not write .*a\.mp4: .*width not divisible by 2"):
        write_mp4(tmp_path / "a.mp4", odd, size=(63, 48), rate=10)
    assert not list(tmp_path.iterdir())


def test_without_an_encoder_it_says_how_to_get_one(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    words = "MP4 needs an encoder, ffmpeg, and none was found. Install one: pip install 'qmix-lightning[video]'"
    with pytest.raises(ImportError, match=re.escape(words)):
        encoder()


def test_the_machines_own_encoder_is_taken_first(monkeypatch, tmp_path):
    own = tmp_path / "ffmpeg"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert encoder() == str(own)
