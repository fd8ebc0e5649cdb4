"""A loss and its gradient, recorded on an accelerator for batches of each length and replayed from then on."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from tensordict import TensorDict
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from qmix_lightning.functional.graphs import GRAPHS, Graph, say_since_when, say_why_not
from qmix_lightning.objectives.batch import write_error
from qmix_lightning.objectives.factored_value import FactoredValue
from qmix_lightning.objectives.qmixer import QMixerLoss

RECORDINGS: Final = 100
"""After so many recordings something must be changing all the time, and batches are called."""

CHANGES: Final = 100
"""So they are after so many batches in a row of which none was as the one before, so that none could be recorded."""


class GraphedLoss:
    """Calls a :class:`~qmix_lightning.objectives.qmixer.QMixerLoss` of episodes, on an accelerator out of a graph.

    The first batch is called, and so checked. Later ones are padded to one of a few lengths, for each of which the
    passes forward and backward are recorded once, and replayed. They are recorded anew when parameters have moved in
    memory, were frozen or freed, in another mode or precision, and when a number or a word has changed that is
    an attribute of the loss or of a network. What else the Python of networks does is done while recording only. So
    batches are called with hooks on networks, in anomaly detection, without gradients, and on a CPU; where recording
    fails, too, and the reason is logged.

    Args:
        loss: The loss, which has a mask among its keys.
        most_steps: Length of the longest batch, its last observation included, that memory is kept for at once.

    Attributes:
        replays: Batches that were replayed.
    """

    def __init__(self, loss: QMixerLoss, most_steps: int) -> None:
        self.loss, self.most_steps, self.replays = loss, most_steps, 0
        self._recordings: dict[int, _Recording] = {}
        self._room: dict[Any, Tensor] = {}
        self._graph: Graph | None = None
        self._left, self._passes = RECORDINGS, 0
        self._changes = 0  # since a batch was as the one before
        self._seen: _Seen | None = None
        self._made_of: tuple[Hashable, ...] = ()

    def __reduce__(self) -> tuple[type[GraphedLoss], tuple[QMixerLoss, int]]:
        """Copies record for themselves."""
        return GraphedLoss, (self.loss, self.most_steps)

    def __call__(self, batch: TensorDict) -> TensorDict:
        """The loss of a batch ``[B, L]``, to be differentiated before the next; see :meth:`QMixerLoss.forward`."""
        key = self.loss.tensor_keys.mask
        mask = None if key is None else batch.get(key, None)
        if mask is None or mask.device.type not in GRAPHS or not self._left or not torch.is_grad_enabled():
            return self.loss(batch)
        seen = self._look()
        if (made_of := seen.made_of(batch, mask.device)) != self._made_of:
            self._made_of, self._graph = made_of, None
            self._recordings.clear()
            self._room.clear()
            self._changes += 1
            if self._changes == CHANGES:
                self._left = 0
                say_why_not("update", f"{CHANGES} batches in a row differ in what a recording depends on.")
            return self.loss(batch)
        self._changes = 0
        if seen.watched():
            return self.loss(batch)
        length = min(padded_length(batch.shape[1]), max(self.most_steps, batch.shape[1]))
        if length not in self._recordings:
            self._record(batch, length)
        if length not in self._recordings:
            return self.loss(batch)
        self.replays += 1
        return self._recordings[length].run(self, batch)

    def _look(self) -> _Seen:
        networks = self.loss.follow_networks()
        if self._seen is None or self._seen.networks != networks:
            self._seen = _Seen(self.loss, networks)
        return self._seen

    def _record(self, batch: TensorDict, length: int) -> None:
        entries = {key: entry for key in self.loss.in_keys if (entry := batch.get(key, None)) is not None}
        for key, entry in entries.items():
            needed = max(length, self.most_steps) * entry[:, 0].numel()
            if key not in self._room or self._room[key].numel() < needed:
                self._room[key] = entry.new_zeros(needed)
        steps = {
            key: self._room[key][: length * entry[:, 0].numel()].view(len(batch), length, *entry.shape[2:])
            for key, entry in entries.items()
        }
        device, first = batch[self.loss.tensor_keys.mask].device, self._graph is None
        self._graph = GRAPHS[device.type](device) if self._graph is None else self._graph.beside()
        self._left -= 1
        recording = _Recording(self.loss, TensorDict(steps, [len(batch), length]), self._graph)
        try:
            recording.make(batch)
        except Exception as error:  # whatever it is: calling the loss will raise it again if it is no matter of graphs
            say_why_not("update", error)
            self._left = 0
            self._recordings.clear()
            return
        self._recordings[length] = recording
        if first:
            say_since_when("update")
        if not self._left:
            say_why_not("update", f"it was recorded {RECORDINGS} times, so that something must change all the time.")

    def forward(self, recording: _Recording) -> int:
        """Replay a pass forward; which one it is."""
        self._passes += 1
        recording.forward.replay()
        return self._passes

    def backward(self, recording: _Recording, number: int, gradient: Tensor) -> list[Tensor | None]:
        """Replay the pass backward from a gradient of the loss, after a pass forward.

        Raises:
            RuntimeError: If it was not the last one, or its gradient was taken already.
        """
        if number != self._passes:
            raise RuntimeError(
                "Expected the gradient of a replayed loss once, and before the loss of the next batch, which is"
                " computed in the same memory. Call backward() first, or use the loss itself in place of its graph."
            )
        self._passes += 1
        return recording.gradients(gradient)


class _Seen:
    """A loss and its networks as they are, so that a look tells what has changed since.

    Args:
        loss: The loss.
        networks: Its online and its target networks.
    """

    def __init__(self, loss: QMixerLoss, networks: tuple[FactoredValue, FactoredValue]) -> None:
        self.loss, self.networks = loss, networks
        self._parts = [part for factored in networks for part in (*factored.local.modules(), *factored.mixer.modules())]
        owners = [*loss.modules(), *self._parts]
        slots = {id(owner): (owner._parameters, owner._buffers) for owner in owners}
        # Parameters of a network are the loss's too, and once is enough.
        tensors = {id(slot[name]): (slot, name) for pair in slots.values() for slot in pair for name in slot}
        self._tensors = list(tensors.values())
        self._numbers = [
            (owner.__dict__, name)
            for owner in owners
            for name, value in owner.__dict__.items()
            if isinstance(value, bool | int | float | str)
        ]

    def made_of(self, batch: TensorDict, device: torch.device) -> tuple[Hashable, ...]:
        """What a recording of such a batch depends on, beside the numbers in tensors."""
        entries = [(key, batch.get(key, None)) for key in self.loss.in_keys]
        tensors = [slot.get(name) for slot, name in self._tensors]
        known = [tensor for tensor in tensors if tensor is not None]
        return (
            self.networks,
            len(batch),
            *((key, entry.dtype, *entry.shape[2:]) for key, entry in entries if entry is not None),
            torch.is_autocast_enabled(device.type) and torch.get_autocast_dtype(device.type),
            *((tensor.data_ptr(), tensor.dtype, tensor.requires_grad) for tensor in known),
            *map(id, tensors),
            *(owner.get(name) for owner, name in self._numbers),
        )

    def watched(self) -> bool:
        """Whether somebody looks at what happens within."""
        looked_at: list[nn.Module] = [self.loss, *self._parts]
        return torch.is_anomaly_enabled() or any(
            part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks
            for part in looked_at
        )


class _Recording:
    """Both passes over batches of one length.

    Args:
        loss: The loss.
        steps: Where a batch is to be written, ``[B, L]``.
        graph: Records the pass forward.
    """

    def __init__(self, loss: QMixerLoss, steps: TensorDict, graph: Graph) -> None:
        self._loss, self._steps = loss, steps
        self._entries = {key: steps[key] for key in loss.in_keys if key in steps.keys(True, True)}
        self._mask: Tensor = steps[loss.tensor_keys.mask]
        self._parameters = [parameter for parameter in loss.parameters() if parameter.requires_grad]
        self._scale = torch.ones((), device=self._mask.device)
        self._gradients: tuple[Tensor | None, ...] = ()
        self.figures: dict[str, Tensor] = {}
        self.forward, self._backward = graph, graph.beside()

    def make(self, batch: TensorDict) -> None:
        """Record the passes over a batch, once they were rehearsed."""
        self._write(batch)
        before = [(buffer, buffer.clone()) for buffer in self._loss.buffers()]
        with _without_kept_casts():
            self.forward.rehearse(self._rehearse)
            # Such as running statistics, which would count this batch twice.
            for buffer, content in before:
                buffer.copy_(content)
            self.forward.capture(self._go, ())
            self._backward.capture(self._return, ())
        # The memory of the pass forward was used again by the one backward: none of its results may lead there.
        self.figures = {name: figure.detach() for name, figure in self.figures.items()}

    def run(self, owner: GraphedLoss, batch: TensorDict) -> TensorDict:
        """Loss and other figures of a batch of this length or less, in which the errors are written."""
        self._write(batch)
        figures = _Replay.apply(owner, self, *self._parameters)  # type: ignore[no-untyped-call]
        *figures, error = figures
        write_error(batch, self._loss.tensor_keys.priority, error[:, : batch.shape[1]])
        return TensorDict(dict(zip(self.figures, figures, strict=False)), [])

    def gradients(self, gradient: Tensor) -> list[Tensor | None]:
        """Replay the pass backward; what it finds for each parameter, in memory of its own."""
        self._scale.copy_(gradient)
        self._backward.replay()
        found = iter(torch._foreach_mul([known for known in self._gradients if known is not None], 1.0))
        return [None if known is None else next(found) for known in self._gradients]

    def _write(self, batch: TensorDict) -> None:
        n_steps = batch.shape[1]
        torch._foreach_copy_(
            [steps[:, :n_steps] for steps in self._entries.values()], [batch[key] for key in self._entries]
        )
        # The batch's last step only bootstraps, whatever its mask says, and is the last no more where padding follows.
        self._mask[:, n_steps - 1 :] = False

    def _go(self) -> None:
        found = self._loss(self._steps)
        error = self._steps[self._loss.tensor_keys.priority]
        self.figures = {**{key: found[key] for key in self._loss.out_keys}, "error": error}

    def _return(self) -> None:
        self._gradients = torch.autograd.grad(
            self.figures["loss"], self._parameters, self._scale.to(self.figures["loss"].dtype), allow_unused=True
        )

    def _rehearse(self) -> None:
        self._go()
        self._return()


class _Replay(torch.autograd.Function):
    """The loss as a function of its parameters."""

    @staticmethod
    def forward(ctx: Any, owner: GraphedLoss, recording: _Recording, *parameters: Tensor) -> tuple[Tensor, ...]:
        """Loss and other figures, which are not to be differentiated."""
        ctx.owner, ctx.recording, ctx.number = owner, recording, owner.forward(recording)
        figures = tuple(figure.clone() for figure in recording.figures.values())
        ctx.mark_non_differentiable(*figures[1:])
        ctx.set_materialize_grads(False)
        return figures

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: None) -> tuple[Tensor | None, ...]:
        """The gradient of each parameter."""
        return (None, None, *ctx.owner.backward(ctx.recording, ctx.number, gradient))


@contextmanager
def _without_kept_casts() -> Iterator[None]:
    """Autocast must not take parameters that it has cast before the recording, which replays would not cast again."""
    kept = torch.is_autocast_cache_enabled()
    torch.clear_autocast_cache()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(kept)


def padded_length(steps: int) -> int:
    """The next of a few lengths: every fourth, and from 64 on eight from a power of two to the next.

    Example:
        >>> [padded_length(steps) for steps in (1, 25, 61, 64, 65, 130)]
        [4, 28, 64, 64, 72, 144]
    """
    grain = max(4, 1 << max(0, steps.bit_length() - 4))
    return -(-steps // grain) * grain
