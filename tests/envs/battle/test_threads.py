"""Battles shared out over threads; that it changes nothing stands in test_env.py and test_hindsight.py."""

import subprocess
import sys

import pytest
from numba import get_num_threads
from numba.core import config

from qmix_lightning.envs.battle.threads import at_most, usable

PLAY = """
import logging, torch
logging.basicConfig(format="%(name)s: %(message)s")
from qmix_lightning.envs.registry import make
states = []
for threads in (1, 3):
    env = make("battle/3m", num_envs=5, seed=2, threads=threads)
    view = env.reset()
    for _ in range(20):
        view = env.step(view["agents", "action_mask"].long().argmax(-1))
    states.append(view["state"].clone())
print(torch.equal(*states))
"""


def test_no_more_threads_than_there_are_run_and_others_are_left_as_they_were():
    before = get_num_threads()
    with at_most(1):
        assert get_num_threads() == 1
        with at_most(10_000):
            assert get_num_threads() == config.NUMBA_NUM_THREADS
        assert get_num_threads() == 1
    assert get_num_threads() == before


def test_an_error_leaves_the_number_of_threads_as_it_was():
    before = get_num_threads()
    with pytest.raises(KeyError), at_most(1):
        raise KeyError
    assert get_num_threads() == before


def test_one_thread_needs_nobody():
    assert usable(1) == 1


def test_without_threads_that_may_be_called_from_two_places_battles_take_one_and_say_so(monkeypatch):
    monkeypatch.setenv("NUMBA_THREADING_LAYER", "workqueue")
    ran = subprocess.run([sys.executable, "-c", PLAY], capture_output=True, text=True, check=True, timeout=300)
    assert ran.stdout == "True\n"
    assert ran.stderr.count("in one thread instead of 3") == 1
    assert "apt install libgomp1" in ran.stderr
