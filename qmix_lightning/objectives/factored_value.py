"""The joint value, factored into values of each agent's actions: what a local network and a mixer say of a batch."""

from __future__ import annotations

import inspect
from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from tensordict import NestedKey, TensorDict, TensorDictBase, unravel_key
from tensordict.nn import TensorDictModule
from torch import Size, Tensor, nn

from qmix_lightning.actors.action_spaces import expand_mask, greedy_action, value_of_action
from qmix_lightning.functional.masks import without_padding
from qmix_lightning.functional.packing import Packing, Rows
from qmix_lightning.functional.precision import HALF, as_given, autocasts, uncast
from qmix_lightning.functional.values import legal_max
from qmix_lightning.mixers.base import Mixer


@dataclass
class Entries:
    """Some entries of a batch by their unravelled keys.

    A dictionary in place of a tensordict: at 32 transitions, what tensordicts check at every access is a third of the
    loss.

    Args:
        at: The entries.
        batch: Their leading shape ``[*B]``.
        where: What to call the place they are from, if it is another than the batch itself.
        packing: Without which of the steps networks may run over them, if they can.
    """

    at: dict[NestedKey, Any]
    batch: Size
    where: str = ""
    packing: Packing | None = None

    def copy(self) -> Entries:
        """The same entries in a dictionary of its own."""
        return Entries(dict(self.at), self.batch, self.where, self.packing)

    def steps(self, index: slice) -> Entries:
        """Some steps ``[B, t]`` of entries ``[B, T]``."""
        batch = Size([self.batch[0], len(range(*index.indices(self.batch[1])))])
        return Entries({key: entry[:, index] for key, entry in self.at.items()}, batch)

    def found(self, key: NestedKey) -> Tensor:
        """An entry that must be there."""
        if key not in self.at:
            raise KeyError(
                f'key "{key}" not found in TensorDict{self.where} with keys {sorted(map(str, self.at))}. Name your own'
                " keys with set_keys, and give each network what it reads."
            )
        return self.at[key]  # type: ignore[no-any-return]


class FactoredValue:
    """A local network and a mixer, both online or both target.

    The choice of an action at the end of the local network is left out, where it is a QValueModule: a loss needs the
    values of all actions, and of that choice it would pay for the masking and the argmax.

    Args:
        local: Writes the values of all actions of each agent.
        mixer: Mixes the values of the agents' actions.
        keys: Of the loss.
        action_space: Format of the actions.

    Attributes:
        reads: What is read of a batch, in a stable order.
        picks: Whether the local network picks actions in a way of its own, and writes their values.
        memory: What the local network writes for its own next step.
    """

    def __init__(self, local: nn.Module, mixer: nn.Module, keys: Any, action_space: str) -> None:
        self.local, self.mixer, self._space = local, mixer, action_space
        self._action_value, self._local_value = unravel_key(keys.action_value), unravel_key(keys.local_value)
        self._global_value = unravel_key(keys.global_value)
        self._agent_mask = None if keys.agent_mask is None else unravel_key(keys.agent_mask)
        head, chain = find_head(local, keys.action_value), _in_turn(local) or [local]
        self._var_nums = getattr(head, "var_nums", None)
        # What is not run as a module must have no hooks, which may be added at any time.
        self._passed_over = [*_sequences(local), *([] if head is None else [head])]
        leave_out = head is not None and not _hooked(head)
        self._chain = [_Call(module) for module in (chain[:-1] if leave_out else chain)]
        self._mix = _Call(mixer)
        written = {key for call in self._chain for key in call.out_keys}
        self.picks = not leave_out and self._local_value in written
        self.memory = {key[1:] for key in written if isinstance(key, tuple) and key[0] == "next"}
        self.memory = {key[0] if len(key) == 1 else key for key in self.memory}
        made, reads = set[NestedKey](), list[NestedKey]()
        for call in self._chain:
            reads += [key for key in call.in_keys if key not in made]
            made.update(call.out_keys)
        made.add(self._local_value)
        reads += [key for key in self._mix.in_keys if key not in made]
        self.reads = list(dict.fromkeys(reads if self._agent_mask is None else [*reads, self._agent_mask]))

    def hooked(self) -> bool:
        """Whether a module has got hooks since, that would not run."""
        return any(map(_hooked, self._passed_over))

    def mixes_rows(self) -> bool:
        """Whether the mixer can be given some steps in any order: one of ours, of which each is mixed alone."""
        return self._mix.spares(self._mix.pointwise)

    def spared(self) -> set[NestedKey]:
        """What is read only by networks that leave padding out, where there is a packing."""
        spared, read = set[NestedKey](), set[NestedKey]()
        for call in self._chain:
            (spared if call.spares(call.packs) else read).update(call.in_keys)
        (spared if self.mixes_rows() else read).update(self._mix.in_keys)
        return spared - read

    def read(
        self,
        batch: TensorDictBase,
        shape: Size,
        keep: Tensor | None,
        where: str = "",
        spared: Collection[NestedKey] = (),
    ) -> Entries:
        """What the networks read, padding zeroed.

        Args:
            batch: Holds the entries.
            shape: Their leading shape ``[*B]``.
            keep: ``[*B, 1]`` bool, False on padding; None keeps everything.
            where: What to call the place, if it is another than the batch itself.
            spared: Entries whose padding nobody reads.
        """
        at = {key: entry for key in self.reads if (entry := batch.get(key, None)) is not None}
        if keep is not None:
            for key, entry in at.items():
                if key not in spared and isinstance(entry, Tensor) and entry.is_floating_point():
                    at[key] = without_padding(entry, keep)
        return Entries(at, shape, where)

    def action_values(self, entries: Entries) -> Tensor:
        """The value of every action of every agent ``[*B, N, A]``; what else the network writes is added.

        Under autocast the network runs in half precision, and everything after it in single.
        """
        for call in self._chain:
            call(entries)
        return uncast(entries.found(self._action_value))

    def chosen(self, values: Tensor, action: Tensor) -> Tensor:
        """The value ``[*B, N, 1]`` of each agent's action."""
        return value_of_action(values, action, self._space)

    def best(self, entries: Entries, preferred: Tensor | None, values: Tensor, legal: Tensor | None) -> Tensor:
        """The value ``[*B, N, 1]`` of each agent's best legal action.

        Args:
            entries: To which the local network has added what it writes.
            preferred: ``[*B, N, A]``, by which the action is chosen; None chooses by ``values``, or as the network does
                if it picks actions in a way of its own.
            values: ``[*B, N, A]``, by which it is valued.
            legal: ``[*B, N, A]`` bool; None makes all actions legal. Agents that are not there need no legal one.
        """
        if preferred is None and self.picks:
            return entries.found(self._local_value)
        if legal is not None:
            legal = expand_mask(legal, values.shape)
            if self._agent_mask is not None:
                legal = legal | ~self._present(entries, legal)
        if preferred is None and self._space != "mult_one_hot":
            return legal_max(values, legal, keepdim=True)
        action = greedy_action(values if preferred is None else preferred, legal, self._space, self._var_nums)
        return self.chosen(values, action)

    def mix(self, entries: Entries, chosen: Tensor) -> Tensor:
        """The value ``[*B, 1]`` of joint actions whose agents' values are ``chosen`` ``[*B, N, 1]``."""
        if self._agent_mask is not None:
            # An agent that is not there contributes nothing.
            chosen = torch.where(self._present(entries, chosen), chosen, 0)
        entries.at[self._local_value] = chosen
        with self._as_made(entries, chosen.device):
            self._mix(entries)
        joint = entries.found(self._global_value)
        # Half precision is good enough for networks, not for differences of their outputs.
        return joint if joint.dtype in (torch.float32, torch.float64) else joint.float()

    def mix_rows(self, entries: Entries, chosen: Tensor, steps: Rows, rows: Rows) -> Tensor:
        """The value ``[B, T, 1]`` of joint actions at some steps, and 0 at the others.

        Args:
            entries: ``[B, T+1]``.
            chosen: ``[B, T, N, 1]``.
            steps: Which of those.
            rows: Where the same ones, or those after them, are among the entries.
        """
        keys = (*self._mix.in_keys, self._agent_mask)
        at = {key: rows.take(entries.at[key]) for key in keys if key in entries.at}
        return steps.put(self.mix(Entries(at, steps.index.shape), steps.take(chosen)))

    def _as_made(self, entries: Entries, device: torch.device) -> AbstractContextManager[object]:
        """Under autocast, a context for the mixer to run in the precision of its parameters, and its inputs in that."""
        if not autocasts(device):
            return nullcontext()
        # Parameters of targets are buffers.
        if any(tensor.dtype in HALF for tensor in (*self.mixer.parameters(), *self.mixer.buffers())):
            return nullcontext()
        for key in self._mix.in_keys:
            # Such as a memory that the local network has written.
            if isinstance(entry := entries.at.get(key), Tensor):
                entries.at[key] = uncast(entry)
        return as_given(device)

    def _present(self, entries: Entries, like: Tensor) -> Tensor:
        """Which agents are there, ``[*B, N, 1]`` bool."""
        assert self._agent_mask is not None, "Only a loss with an agent_mask asks."
        present = entries.found(self._agent_mask)
        present = present if present.ndim == like.ndim else present.unsqueeze(-1)
        if present.dtype != torch.bool or present.shape != (*like.shape[:-1], 1):
            raise ValueError(
                f"Expected an agent_mask of shape {(*like.shape[:-1], 1)} and type bool, got {tuple(present.shape)} and"
                f" {present.dtype}."
            )
        return present


def find_head(network: nn.Module, action_value: NestedKey) -> Any:
    """The QValueModule, ours or TorchRL's, at the end of a local network, if it reads the values the loss reads."""
    last: Any = (_in_turn(network) or [None])[-1]
    if type(last).__name__ != "QValueModule":
        return None
    return last if unravel_key(last.action_value_key) == unravel_key(action_value) else None


def _in_turn(network: Any) -> list[Any] | None:
    """The modules that a sequence runs one after the other; None if it is no sequence, or does more than that."""
    # A subclass may do more, and so do hooks: they are left to do so themselves.
    if type(network).__name__ not in ("TensorDictSequential", "SafeSequential", "QValueActor") or _hooked(network):
        return None
    if network.partial_tolerant or network.inplace is not None:
        return None
    return [part for module in network.module for part in _in_turn(module) or [module]]


def _sequences(network: Any) -> list[Any]:
    """The sequences whose modules are run one by one in their place."""
    if _in_turn(network) is None:
        return []
    return [network, *(inner for module in network.module for inner in _sequences(module))]


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _takes_packing(module: Any) -> bool:
    try:
        return "packing" in inspect.signature(module.forward).parameters
    except (AttributeError, TypeError, ValueError):
        # A function, or what tells nobody what it takes.
        return False


class _Call:
    """A TensorDict module applied to entries; asked directly if it only maps tensors to one tensor."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.in_keys = [unravel_key(key) for key in module.in_keys]
        self.out_keys = [unravel_key(key) for key in module.out_keys]
        # A TensorDictModule looks on the disk for pandas at each tensor that it writes.
        simple = type(module) is TensorDictModule and len(self.out_keys) == 1
        self.direct = simple and module.method is module._kwargs is None
        inner = module.module if simple else None
        self.packs, self.pointwise = _takes_packing(inner), isinstance(inner, Mixer)

    def spares(self, able: bool) -> bool:
        """Whether the module, if it is able to, leaves padding out; hooks may be added at any time, and see it all."""
        return able and self.direct and not _hooked(self.module)

    def __call__(self, entries: Entries) -> None:
        if self.direct and not _hooked(self.module):
            packing = {"packing": entries.packing} if self.packs and entries.packing is not None else {}
            output = self.module.module(*[entries.found(key) for key in self.in_keys], **packing)
            if isinstance(output, Tensor):
                entries.at[self.out_keys[0]] = output
                return
            self.direct = False
        given = {key: entries.at[key] for key in self.in_keys if key in entries.at}
        output = self.module(TensorDict(given, entries.batch))
        entries.at |= {key: output.get(key) for key in self.out_keys}
