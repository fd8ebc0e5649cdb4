"""Whole battles, recorded twice: by everything that was seen, and by the units alone."""

from __future__ import annotations

import torch
from tensordict import TensorDict

from qmix_lightning.rollout.episodes import EpisodeRecorder
from qmix_lightning.spec import ACTION, ACTION_MASK, MASK, OBSERVATION, STATE, UNITS
from tests.envs.battle.policies import random_legal

SIGHT = (OBSERVATION, ACTION_MASK, STATE)


def record(env, number, *, seed=0, fierce=0.5):
    """At least ``number`` random battles ``[b, T + 1]``: as they were seen, and only units, actions and mask."""
    generator = torch.Generator().manual_seed(seed)
    recorder, columns = EpisodeRecorder(env.spec, env.num_envs), [[] for _ in range(env.num_envs)]
    seen, units, view = [], [], env.reset()
    recorder.begin(view)
    while sum(map(len, seen)) < number:
        for column, now in zip(columns, view[UNITS].clone(), strict=True):
            column.append(now)
        action = random_legal(view, generator, fierce=fierce)
        view = env.step(action)
        if (which := recorder.record(action, view)) is not None:
            seen.append(recorder.take()[1])
            for b in which.tolist():
                column, columns[b] = [*columns[b], view[UNITS][b].clone()], []
                padding = [torch.zeros_like(column[0])] * (env.spec.episode_limit + 1 - len(column))
                units.append(torch.stack(column + padding))
            view = env.reset(view["done"][:, 0].clone())
            recorder.begin(view, which)
    seen = torch.cat(seen)
    return seen, TensorDict({UNITS: torch.stack(units), ACTION: seen[ACTION], MASK: seen[MASK]}, seen.shape)


def bits(tensor):
    """The bits of numbers, which tell -0.0 from 0.0."""
    return tensor.contiguous().view(torch.uint8)


def same(one, two, keys=SIGHT):
    return all(torch.equal(bits(one[key]), bits(two[key])) for key in keys)
