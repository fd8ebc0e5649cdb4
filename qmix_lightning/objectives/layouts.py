"""How steps lie in a batch, and so how the networks run over it: each function gives the values now and one step on."""

from __future__ import annotations

from collections.abc import Callable

import torch
from tensordict import NestedKey, unravel_key
from torch import Size, Tensor

from qmix_lightning.functional.masks import seen_steps, without_padding
from qmix_lightning.functional.packing import pack, played_rows
from qmix_lightning.objectives.batch import Batch, found
from qmix_lightning.objectives.factored_value import Entries, FactoredValue

Layout = Callable[[FactoredValue, FactoredValue, Batch, bool], tuple[Tensor, Tensor]]
"""From online and target networks, a batch, and whether the online one chooses the target's action, to the values of
the actions taken and target values of the best actions one step on."""


def transitions(online: FactoredValue, target: FactoredValue, batch: Batch, double_q: bool) -> tuple[Tensor, Tensor]:
    """Steps ``[*B]`` that hold their own next step under ``"next"``, in any order.

    Returns:
        Values of the actions taken, and target values of the best actions one step on, both ``[*B, 1]``.
    """
    after = batch.entries.get("next")
    entries = online.read(batch.entries, batch.shape, batch.mask)
    values = online.action_values(entries)
    value = online.mix(entries, online.chosen(values, without_padding(batch.action, batch.mask)))
    with torch.no_grad():
        entries = online.read(after, batch.shape, batch.mask, " of the next step")
        preferred = online.action_values(entries.copy()) if double_q else None
        values = target.action_values(entries)
        chosen = target.best(entries, preferred, values, batch.legal(after, batch.mask))
        return value, target.mix(entries, chosen)


def episodes(online: FactoredValue, target: FactoredValue, batch: Batch, double_q: bool) -> tuple[Tensor, Tensor]:
    """Consecutive steps ``[B, T+1]``, stored once; each network runs over them once, from the first.

    Our networks are spared padding where there is enough; see :func:`~qmix_lightning.functional.packing.pack`.

    Returns:
        Values of the actions taken, and target values of the best actions one step on, both ``[B, T, 1]``.

    Raises:
        ValueError: If the batch is not of that shape.
    """
    if len(batch.shape) != 2 or batch.shape[1] < 2:
        raise ValueError(
            f"layout='episode' expected a batch [B, T+1] with T >= 1, got {list(batch.shape)}. Steps that hold their"
            " own next step need layout='transition'."
        )
    seen = None if batch.mask is None else seen_steps(batch.mask)
    packing = None if seen is None else pack(seen)
    spared: set[NestedKey] = set()
    rows = None
    if batch.mask is not None and packing is not None:
        spared = online.spared() & target.spared()
        rows = played_rows(batch.mask) if online.mixes_rows() and target.mixes_rows() else None
    read = online.read(batch.entries, batch.shape, seen, spared=spared)
    read.packing = packing
    entries = read.copy()
    values = online.action_values(entries)
    # Cut afterwards: indexing a part of a tensor is slower than of the whole.
    chosen = online.chosen(values, without_padding(batch.action, batch.mask))[:, :-1]
    if rows is None:
        value = online.mix(entries.steps(slice(None, -1)), chosen)
    else:
        value = online.mix_rows(entries, chosen, rows[0], rows[1])
    with torch.no_grad():
        entries = read
        preferred = values[:, 1:] if double_q else None
        values = target.action_values(entries)[:, 1:]
        legal = batch.legal(batch.entries, seen)
        after = entries.steps(slice(1, None))
        chosen = target.best(after, preferred, values, None if legal is None else legal[:, 1:])
        if rows is None:
            return value, target.mix(after, chosen)
        return value, target.mix_rows(entries, chosen, rows[0], rows[2])


def unrolled(
    online: FactoredValue, target: FactoredValue, batch: Batch, double_q: bool, *, is_init: NestedKey
) -> tuple[Tensor, Tensor]:
    """Steps ``[*B, T]`` with their next steps, through networks with a memory.

    A network that runs over the next steps on their own starts one step late and with no memory, and does not know
    where trajectories end. So each network runs once over the steps themselves, with the next step of every
    trajectory's last inserted behind it::

        now     o0 o1 o2 | o3 o4           o0 o1 o2 [o2'] | o3 o4 [o4']
        next    o1 o2 o2'| o4 o4'     =>   now = 0 1 2 4 5,  next = now + 1

    Args:
        online: The networks that learn.
        target: Their targets.
        batch: Steps in order of time along the last dimension.
        double_q: Whether the online network chooses the target's action.
        is_init: Where the batch says that a step is its trajectory's first, and the one before it ``done``.

    Returns:
        Values of the actions taken, and target values of the best actions one step on, both ``[*B, T, 1]``.
    """
    rows, steps = batch.shape[:-1].numel(), batch.shape[-1]
    after, init = batch.entries.get("next"), found(batch.entries, is_init)
    starts = init.flatten(len(batch.shape)).any(-1).reshape(rows, steps)
    ends = batch.done.reshape(rows, steps).clone()
    if batch.mask is not None:
        ends[:, :-1] |= ~batch.mask.reshape(rows, steps)[:, 1:]
    ends[:, -1] = True
    starts[:, 1:] |= ends[:, :-1]
    row = torch.arange(rows, device=ends.device).unsqueeze(1)
    now = torch.arange(steps, device=ends.device) + ends.cumsum(1) - ends.long()
    # A graph must not depend on where trajectories end: there it is as long as it could be.
    static = torch.compiler.is_compiling() or not now.numel()
    length = 2 * steps if static else int(now.max()) + 2

    def insert(entry: Tensor, following: Tensor | None = None) -> Tensor:
        event = entry.shape[len(batch.shape) :]
        sequence = entry.new_zeros(rows, length, *event)
        if following is not None:
            # Where a trajectory goes on, its own next step is about to be written to this place.
            sequence[row, now + 1] = following.reshape(rows, steps, *event)
        sequence[row, now] = entry.reshape(rows, steps, *event)
        return sequence

    def take(entry: Tensor, place: Tensor) -> Tensor:
        return entry[row, place].reshape(*batch.shape, *entry.shape[2:])

    def taken(entries: Entries, place: Tensor) -> Entries:
        return Entries({key: take(entry, place) for key, entry in entries.at.items()}, batch.shape)

    following = online.read(after, batch.shape, batch.mask).at
    own = online.read(batch.entries, batch.shape, batch.mask).at
    for key in own.keys() - following.keys() - online.memory - {unravel_key(is_init)}:
        found(batch.entries, ("next", key))
    at = {key: insert(entry, following.get(key)) for key, entry in own.items()}
    begun = starts.view(*batch.shape, *[1] * (init.ndim - len(batch.shape))).expand_as(init)
    read = Entries(at | {unravel_key(is_init): insert(begun)}, Size([rows, length]))
    entries = read.copy()
    values = online.action_values(entries)
    action = without_padding(batch.action, batch.mask)
    value = online.mix(taken(entries, now), online.chosen(take(values, now), action))
    with torch.no_grad():
        preferred = take(values, now + 1) if double_q else None
        values = take(target.action_values(read), now + 1)
        entries = taken(read, now + 1)
        return value, target.mix(entries, target.best(entries, preferred, values, batch.legal(after, batch.mask)))
