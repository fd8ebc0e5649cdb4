"""Scripted teams that choose from what the agents see."""

from __future__ import annotations

import torch

EAST, WEST, FIRST_ATTACK = 4, 5, 6


def random_legal(view, generator, *, fierce=0.0):
    """Any legal action, on the CPU; attacks are preferred by ``fierce``."""
    mask = view["agents", "action_mask"].cpu()
    keys = torch.rand(mask.shape, generator=generator)
    keys[..., FIRST_ATTACK:] += fierce
    return keys.masked_fill(~mask, -1).argmax(-1)


def stop(view, generator=None):
    return view["agents", "action_mask"].int()[..., :2].argmax(-1)


def nearest(view, generator=None):
    """Attack the nearest enemy in range, else wait."""
    enemy, targets = _enemies(view)
    chosen = FIRST_ATTACK + enemy[..., 1].masked_fill(~targets, 1e9).argmin(-1)
    return chosen.where(targets.any(-1), stop(view))


def focus(view, generator=None):
    """Attack one enemy together: in range of most, weak, near; who cannot attacks the nearest or closes up."""
    enemy, targets = _enemies(view)
    health, seen = enemy[..., 4].amax(1), enemy[..., 4] > 0
    score = targets.sum(1) - 3 * health - 0.3 * enemy[..., 1].where(seen, 2.0).sum(1)
    common = score.masked_fill(health == 0, -1e9).argmax(-1)[:, None].expand(seen.shape[:2])
    closing_up = seen.any(-1) & ~targets.any(-1) & view["agents", "action_mask"][..., EAST]
    alone = nearest(view).where(~closing_up, EAST)
    return (FIRST_ATTACK + common).where(targets.gather(-1, common[..., None])[..., 0], alone)


def careful(view, generator=None):
    """Focus, but let the weakest step back from an enemy in reach when it is clearly weaker than the strongest."""
    enemy, _ = _enemies(view)
    own = view["agents", "observation"][..., -1]
    weakest = own == own.where(own > 0, 2.0).amin(1, keepdim=True)
    near = 9 * enemy[..., 1].where(enemy[..., 4] > 0, 1.0).amin(-1) < 5.6
    retires = weakest & near & (own < own.amax(1, keepdim=True) - 0.2) & view["agents", "action_mask"][..., WEST]
    return focus(view).where(~retires, WEST)


def _enemies(view):
    """What the agents see of each enemy, ``[B, N, M, 5]``, and which they may attack, ``[B, N, M]``."""
    targets = view["agents", "action_mask"][..., FIRST_ATTACK:]
    sizes = (targets.shape[-1], 5)
    return view["agents", "observation"][..., 4 : 4 + sizes[0] * 5].unflatten(-1, sizes), targets


def play(env, policy, *, generator=None):
    """Play every battle once; what it returned, whether it was won, and how long it took, each ``[B]``."""
    view = env.reset()
    going = torch.ones(env.num_envs, dtype=torch.bool)
    returns, won, length = torch.zeros(env.num_envs), torch.zeros_like(going), torch.zeros(env.num_envs)
    for _ in range(env.spec.episode_limit):
        view = env.step(policy(view, generator))
        returns += view["reward"][:, 0] * going
        won |= view["info", "battle_won"][:, 0] & going
        length += going
        going &= ~view["done"][:, 0]
        view = env.reset(~going)
    return returns, won, length
