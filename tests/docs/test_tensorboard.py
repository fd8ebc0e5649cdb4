"""The page on TensorBoard: it explains what is written, and nothing else; its example runs."""

import re

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.training import LIGHTNINGS_OWN_WARNING, ROOT, SMALL, qmix

PAGE = ROOT / "docs/tensorboard.md"
TEXT = PAGE.read_text()
ENTRIES = re.findall(r"^\* ((?:`\w+/\w+`(?:, )?)+): (.*?)(?=^\* |^$)", TEXT, re.MULTILINE | re.DOTALL)
KINDS = ("scalars", "histograms", "images")
ONLY_PRIORITISED = {"train/beta", "train/priority_max", "replay/priority"}


def explained():
    return {name for names, _ in ENTRIES for name in re.findall(r"`(\w+/\w+)`", names)}


@pytest.mark.filterwarnings(LIGHTNINGS_OWN_WARNING)
@pytest.mark.parametrize("prioritised", [False, True])
def test_everything_that_is_written_is_explained_and_nothing_else(tmp_path, monkeypatch, prioritised):
    monkeypatch.chdir(tmp_path)
    often = "--trainer.max_steps=10", "--trainer.val_check_interval=10"
    recipe = ROOT / "recipes/battle/3m.yaml"
    qmix("fit", "--config", recipe, *SMALL, *often, f"--data.prioritised={str(prioritised).lower()}")
    tags = EventAccumulator(str(tmp_path / "logs/battle-3m/version_0")).Reload().Tags()
    written = {re.sub(r"agent_\d+$", "agent_i", tag) for kind in KINDS for tag in tags[kind]}
    assert written == explained() - (set() if prioritised else ONLY_PRIORITISED)


def test_no_name_is_explained_twice():
    names = [name for names, _ in ENTRIES for name in re.findall(r"`(\w+/\w+)`", names)]
    assert len(names) == len(set(names))


@pytest.mark.filterwarnings("default", LIGHTNINGS_OWN_WARNING)
def test_the_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    page = {"__name__": "__tensorboard__"}
    exec(compile(block, PAGE.name, "exec"), page)
    assert page["trainer"].global_step == 40
    assert list(tmp_path.rglob("events*"))


def test_the_pictures_are_there_and_small():
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", TEXT)
    assert len(shown) >= 2
    assert all((PAGE.parent / name).stat().st_size < 150_000 for name in shown)


def test_lines_are_short():
    assert max(map(len, TEXT.splitlines())) <= 120
