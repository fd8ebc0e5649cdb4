"""The page on watching battles: its commands and its example run, and its pictures are what is drawn today."""

import re

import numpy as np
import pytest
from PIL import Image

from qmix_lightning.cli.watch import main
from tests.docs.legend import PATH, legend
from tests.training import ROOT

PAGE = ROOT / "docs/watching.md"
TEXT = PAGE.read_text()
COMMANDS = [line.partition("#")[0].split()[1:] for line in re.findall(r"^\$ (.*)$", TEXT, re.MULTILINE)]


def test_every_option_on_the_page_exists(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    known = {*re.findall(r"--\w+", capsys.readouterr().out), "--config", "--ckpt_path", "--data"}
    assert set(re.findall(r"--\w+", TEXT)) <= known
    assert all(command[:2] == ["watch", "--config"] or command[:2] == ["watch", "--env"] for command in COMMANDS)


def test_the_example_runs(capsys):
    (block,) = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    page = {"__name__": "__watching__"}
    exec(compile(block, PAGE.name, "exec"), page)
    assert page["picture"].width == 960
    assert page["battle"].outcome in capsys.readouterr().out


def test_the_pictures_are_there_and_small():
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", TEXT)
    assert len(shown) == 4
    assert all((PAGE.parent / name).stat().st_size < 1 << 20 for name in shown)


def test_units_look_as_they_do_on_the_page():
    with Image.open(PATH) as drawn:
        before, now = (np.asarray(picture.convert("RGB"), dtype=int) for picture in (drawn, legend()))
    assert before.shape == now.shape, "draw it anew: python -m tests.docs.legend"
    assert np.abs(before - now).mean() < 0.5, "draw it anew: python -m tests.docs.legend"


def test_lines_are_short():
    assert max(map(len, TEXT.splitlines())) <= 120
