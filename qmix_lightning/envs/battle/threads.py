"""Battles shared out over the threads of this process, which numba keeps waiting between two calls.

To hand over work to a thread of Python's takes some 100 microseconds, as long as 50 steps of a small battle; to one of
OpenMP's, 2. A kernel here is compiled when more than one thread is first asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from numba import get_num_threads, prange, set_num_threads
from numba.core import config
from numba.np.ufunc.parallel import threading_layer

from qmix_lightning.envs.battle.compiling import SOURCES, kernel, parallel_kernel, subroutine
from qmix_lightning.envs.battle.engine import first_illegal, play_step
from qmix_lightning.envs.battle.hindsight import see_step
from qmix_lightning.envs.battle.world import World

_LOG = logging.getLogger(__name__)


@kernel
def advance_lawfully_together(
    battles: Any, world: Any, laws: Any, clocks: Any, views: Any, actions: Any, parts: int, _: int = SOURCES
) -> int:
    """Play one environment step of all battles, a ``parts``-th of them in a thread, unless an action is illegal.

    Returns:
        The index of the first illegal action, counted through all battles, or -1.
    """
    illegal = first_illegal(views.action_mask, actions)
    if illegal < 0:
        advance_together(battles, world, laws, clocks, views, actions, parts)
    return int(illegal)


@parallel_kernel
def advance_together(
    battles: Any, world: Any, laws: Any, clocks: Any, views: Any, actions: Any, parts: int, _: int = SOURCES
) -> None:
    """Play one environment step of all battles, a ``parts``-th of them in a thread; the rules are in an array."""
    for part in prange(parts):
        _advance_part(battles, world, laws, clocks, views, actions, part, parts)


@subroutine
def _advance_part(
    battles: Any, w: Any, laws: Any, clocks: Any, views: Any, actions: Any, part: int, parts: int
) -> None:
    # Put together here: loops that are shared out are given no record but in an array.
    world = World(w.types, w.damage, w.ground, w.heights, w.waypoints, w.directions, w.rules[0], w.variety)
    n_battles = battles.shape[0]
    for b in range(n_battles * part // parts, n_battles * (part + 1) // parts):
        play_step(battles[b], world, laws[b], clocks[b], views, actions[b], b)


@parallel_kernel
def see_together(recording: Any, battles: Any, shown: Any, world: Any, parts: int, _: int = SOURCES) -> None:
    """Write what was seen in all episodes, a ``parts``-th of them in a thread, each with a battle's memory of its own.

    ``shown`` ``[parts, U, F]`` is the part of the memory ``battles`` ``[parts, U]`` that the units are recordings of.
    """
    for part in prange(parts):
        _see_part(recording, battles, shown, world, part, parts)


@subroutine
def _see_part(recording: Any, battles: Any, shown: Any, w: Any, part: int, parts: int) -> None:
    world = World(w.types, w.damage, w.ground, w.heights, w.waypoints, w.directions, w.rules[0], w.variety)
    n_episodes, n_steps = recording.units.shape[0], recording.units.shape[1]
    for b in range(n_episodes * part // parts, n_episodes * (part + 1) // parts):
        for t in range(n_steps):
            see_step(recording, battles[part], shown[part], world, b, t)


def usable(threads: int) -> int:
    """How many threads battles can be spread over: as many as asked for, or 1 where threads cannot be kept waiting.

    numba's own threads cannot be called from two places at once, as a rollout ahead and a replay do, so it has to be
    those of OpenMP or of TBB.
    """
    if threads == 1:
        return 1
    get_num_threads()  # has numba choose
    layer: Any = threading_layer  # numba's types end here
    if layer() != "workqueue":
        return threads
    _LOG.warning(
        "Battles are fought in one thread instead of %d, which changes their speed and nothing else: numba found"
        " neither OpenMP nor TBB. Install one (apt install libgomp1, brew install libomp, pip install tbb), or set"
        " threads to 1.",
        threads,
    )
    return 1


@contextmanager
def at_most(threads: int) -> Iterator[None]:
    """Let kernels that this thread calls run in so many threads, but no more than numba may have."""
    before = get_num_threads()
    set_num_threads(min(threads, config.NUMBA_NUM_THREADS))
    try:
        yield
    finally:
        set_num_threads(before)
