"""Where episodes are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from qmix_lightning.functional.memory import BatchMemory
from qmix_lightning.replay.layout import Key, Layout, Precision
from qmix_lightning.replay.table import PADDING, StepTable, sent
from qmix_lightning.spec import MASK


class EpisodeStorage:
    """A ring of preallocated room for ``capacity`` episodes of T + 1 steps; the newest overwrites the oldest.

    The first episodes stored say what an episode looks like. Of an episode, the steps played and the one after the last
    are kept; of the padding behind, which is the same everywhere, one step of the first episode that has any. So
    memory, or disk, is only taken up as it fills, and only by what was played.

    Args:
        capacity: Number of episodes kept.
        device: Where they are kept; None is where the first ones are. On a GPU nothing waits for it, except that
            :meth:`extend` asks once for the lengths of the episodes.
        folder: Where to keep them, in files that are mapped into memory, have no name, and are gone when the process
            ends; None keeps them in memory.
        precision: Of observations and states of float32 while they are kept; they are given back as float32.
        pack: Whether truth values, among them action masks, are kept by bits.
        pin_memory: Whether batches are read into page-locked memory, from which to copy them to a GPU.

    Attributes:
        written: How many episodes were ever stored.
        history: Another object whenever the content is replaced; under the same one, a number means one episode.

    Raises:
        ValueError: If there is no room for an episode, the precision is unknown, or files are wanted on a GPU.

    Example:
        >>> storage = EpisodeStorage(capacity=2)
        >>> mask = torch.tensor([[[True], [True], [False]], [[True], [False], [False]]])
        >>> storage.extend(TensorDict({"mask": mask, "state": torch.ones(2, 3, 4)}, [2, 3]))
        tensor([0, 1])
        >>> storage.read(torch.tensor([1, 1]))["state"].shape
        torch.Size([2, 2, 4])
    """

    def __init__(
        self,
        capacity: int,
        device: torch.device | str | None = None,
        *,
        folder: Path | str | None = None,
        precision: Precision = "float32",
        pack: bool = False,
        pin_memory: bool = False,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"EpisodeStorage needs capacity >= 1, got {capacity}.")
        if precision not in ("float32", "float16"):
            raise ValueError(f"Expected episodes to be kept in float32 or float16, got precision {precision!r}.")
        if folder is not None and torch.device(device or "cpu").type != "cpu":
            raise ValueError(
                f"Expected episodes in files to be on the CPU, got folder {str(folder)!r} and device {device}. Leave"
                " one of them out."
            )
        self.capacity, self.device = capacity, "cpu" if folder is not None else device
        self.folder, self.precision, self.pack = None if folder is None else Path(folder), precision, pack
        self.written, self.history = 0, object()
        self._memory = BatchMemory(pin_memory=pin_memory)
        self._table: StepTable | None = None
        self._lengths = torch.zeros(capacity, dtype=torch.int64)
        self._steps = 0

    def __len__(self) -> int:
        return min(self.written, self.capacity)

    def extend(self, episodes: TensorDict) -> Tensor:
        """Store episodes ``[k, T + 1]``, of which the last ``capacity`` stay.

        Returns:
            The places of those that stay, int64.

        Raises:
            ValueError: If they do not look like those stored before, a number is too large for float16, or the device
                is not there.
            MemoryError: If there is less memory than the first of them ask for.
            OSError: If the disk is full.
        """
        came, count = dict(episodes.items(True, True)), len(episodes)
        layouts = self._layouts(came)
        if self._table is None:
            self._make_room(layouts, episodes.shape[1], came[MASK].device)
        table = self._same_task(layouts, episodes.shape[1])
        kept = min(count, self.capacity)
        lengths = came[MASK][count - kept :].sum((1, 2)).cpu().clamp(max=self._steps - 1)
        steps = {key: entry[count - kept :].flatten(0, 1) for key, entry in came.items()}
        if not table.has_padding and len(short := (lengths < self._steps - 1).nonzero()):
            last = int(short[0] + 1) * self._steps - 1
            table.keep_padding(table.encode({key: entry[last : last + 1] for key, entry in steps.items()}))
        played = sent(self._rows(torch.arange(kept), lengths), came[MASK].device)
        rows = table.encode({key: entry.index_select(0, played) for key, entry in steps.items()})
        after = self.written + count
        place = torch.arange(after - kept, after) % self.capacity
        self._put(table, place, lengths, rows)
        self.written = after
        return place

    def number(self, place: Tensor) -> Tensor:
        """Count how many episodes were ever stored before those at places ``[k]``: a name that is not given again."""
        last = self.written - 1
        return last - (last - place) % self.capacity

    def place(self, number: Tensor) -> tuple[Tensor, Tensor]:
        """Find episodes again by their number.

        Args:
            number: ``[k]`` int64, from :meth:`number`.

        Returns:
            The place ``[k]`` of each, and whether it is still there ``[k]`` bool, not overwritten since.
        """
        oldest = self.written - len(self)
        return number % self.capacity, (oldest <= number) & (number < self.written)

    def steps(self, index: Tensor) -> int:
        """Count the steps played in episodes ``[k]``, which the host knows wherever they are kept."""
        return int(self._lengths[index].sum())

    def read(self, index: Tensor) -> TensorDict:
        """Copy episodes, cut behind the step after the last of the longest.

        Args:
            index: ``[batch]`` int64 in 0, ..., ``len(self) - 1``, on the CPU.

        Returns:
            ``[batch, L + 1]``, contiguous, with L steps in the longest of these episodes. Its memory is used again for
            a later batch, but not before the last tensor that shares it is gone.

        Raises:
            RuntimeError: If nothing was stored yet.
        """
        if self._table is None:
            raise RuntimeError("The storage holds no episode yet, extend it before reading.")
        lengths = self._lengths[index, None]
        shape = (len(index), int(lengths.max()) + 1)
        step = torch.arange(shape[1])
        row = torch.where(step <= lengths, index[:, None] * self._steps + step, self._table.padding + step % PADDING)
        return self._table.read(row.flatten(), shape, most_rows=len(index) * self._steps)

    def episode_bytes(self, episodes: TensorDict | None = None) -> int:
        """Count the bytes that an episode takes here if it lasts T steps.

        Args:
            episodes: ``[k, T + 1]`` like it; None is like those stored, of which there may be none, and then it is 0.
        """
        if episodes is not None:
            layouts, steps = self._layouts(dict(episodes.items(True, True))), int(episodes.shape[1])
        else:
            layouts, steps = {} if self._table is None else self._table.layouts, self._steps
        return steps * sum(layout.row_bytes for layout in layouts.values())

    def form(self) -> dict[str, Any]:
        """Return what an episode looks like, and what its padding holds, in primitives and small tensors."""
        if self._table is None:
            return {}
        padding = self._table.take(torch.tensor([self._table.padding])) if self._table.has_padding else {}
        return {
            "steps": self._steps,
            "layouts": {_dotted(key): layout.state_dict() for key, layout in self._table.layouts.items()},
            "padding": {_dotted(key): row for key, row in padding.items()},
        }

    def begin(self, form: dict[str, Any], written: int) -> None:
        """Forget everything, and make room for episodes of a :meth:`form`, as if so many had been stored.

        Raises:
            ValueError: If they are kept in another form than here.
        """
        layouts = {_key(name): Layout(**layout) for name, layout in form.get("layouts", {}).items()}
        for key, saved in layouts.items():
            ours = Layout.of(key, saved.shape, saved.dtype, self.precision, self.pack)
            if saved != ours:
                raise ValueError(
                    f"Expected saved episodes with {key!r} {ours}, got {saved}. Set the precision and the packing that"
                    " they were saved with."
                )
        self.written, self.history, self._table = written, object(), None
        if form:
            table = self._make_room(layouts, form["steps"], torch.device("cpu"))
            if form["padding"]:
                table.keep_padding({_key(name): row for name, row in form["padding"].items()})

    def take(self, number: Tensor) -> dict[str, Any]:
        """Copy the episodes of numbers ``[k]`` int64, all still there, in the form in which they are kept.

        Returns:
            Their ``lengths`` ``[k]``, and as ``rows`` their steps ``[Σ (length + 1), ...]`` by dotted name, on the CPU.
        """
        lengths = self._lengths[number % self.capacity]
        rows = {} if self._table is None else self._table.take(self._rows(number % self.capacity, lengths))
        return {"lengths": lengths, "rows": {_dotted(key): kept for key, kept in rows.items()}}

    def put(self, number: Tensor, taken: dict[str, Any]) -> None:
        """Keep, after :meth:`begin`, what :meth:`take` returned, under numbers ``[k]`` int64 of the last ``capacity``.

        Raises:
            OSError: If the disk is full.
        """
        if self._table is not None:
            rows = {_key(name): kept for name, kept in taken["rows"].items()}
            self._put(self._table, number % self.capacity, taken["lengths"], rows)

    def state_dict(self) -> dict[str, Any]:
        """Return the episodes, in the form in which they are kept, and where the ring stands."""
        number = torch.arange(self.written - len(self), self.written)
        return {"form": self.form(), "written": self.written, "episodes": self.take(number)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replace the content by that of a :meth:`state_dict` of a storage of the same capacity and options.

        Raises:
            ValueError: If the number of episodes does not fit the capacity, or they are kept in another form.
        """
        count, written = len(state["episodes"]["lengths"]), state["written"]
        if count != min(written, self.capacity):
            raise ValueError(
                f"Expected the state of a storage of capacity {self.capacity}, "
                f"got one with {count} of {written} episodes kept. Set the capacity it was saved with."
            )
        self.begin(state["form"], written)
        self.put(torch.arange(written - count, written), state["episodes"])

    def _make_room(self, layouts: dict[Key, Layout], steps: int, device: torch.device) -> StepTable:
        require_device(self.device)
        device = device if self.device is None else torch.device(self.device)
        rows = self.capacity * steps
        try:
            self._table = StepTable(layouts, rows, device, self.folder, self._memory)
        except RuntimeError as error:  # That is torch's word for it.
            size = rows * sum(layout.row_bytes for layout in layouts.values())
            raise MemoryError(
                f"Expected room on {device} for {size:,} bytes, {self.capacity:,} episodes, got: {_first_line(error)}."
                " Lower the capacity, or keep episodes compact, in float16 or in a folder."
            ) from error
        self._steps = steps
        return self._table

    def _rows(self, place: Tensor, lengths: Tensor) -> Tensor:
        """The rows of the steps that are kept of episodes at places ``[k]``, one after the other."""
        step = torch.arange(self._steps)
        return (place[:, None] * self._steps + step)[step <= lengths[:, None]]

    def _put(self, table: StepTable, place: Tensor, lengths: Tensor, rows: dict[Key, Tensor]) -> None:
        for each, length in zip(place.tolist(), lengths.tolist(), strict=True):
            table.reserve(each * self._steps, length + 1)
        table.write(self._rows(place, lengths), rows)
        self._lengths[place] = lengths

    def _layouts(self, came: dict[Key, Tensor]) -> dict[Key, Layout]:
        return {k: Layout.of(k, entry.shape[2:], entry.dtype, self.precision, self.pack) for k, entry in came.items()}

    def _same_task(self, came: dict[Key, Layout], steps: int) -> StepTable:
        assert self._table is not None
        for key in {**self._table.layouts, **came}:
            before, now = self._table.layouts.get(key), came.get(key)
            if before != now or steps != self._steps:
                raise ValueError(
                    f"Expected episodes with {key!r} {_words(before, self._steps)} as stored before, got"
                    f" {_words(now, steps)}. A buffer holds the episodes of one task: make a new one for another."
                )
        return self._table


def require_device(device: torch.device | str | None) -> None:
    """Refuse a device for episodes that torch has not.

    Args:
        device: As :class:`EpisodeStorage` takes it; None is always there.

    Raises:
        ValueError: Saying what is wrong with it.

    Example:
        >>> require_device("gpu")
        Traceback (most recent call last):
            ...
        ValueError: Expected a device for replayed episodes that is there, such as 'cuda', got 'gpu'. ...
    """
    try:
        there = torch.device(device or "cpu").type != "cuda" or torch.cuda.is_available()
    except RuntimeError:
        there = False
    if not there:
        raise ValueError(
            f"Expected a device for replayed episodes that is there, such as 'cuda', got {str(device)!r}. Choose"
            " another, or leave it out to keep them where they come from."
        )


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".")


def _dotted(key: Key) -> str:
    return key if isinstance(key, str) else ".".join(key)


def _key(dotted: str) -> Key:
    names = tuple(dotted.split("."))
    return names if len(names) > 1 else dotted


def _words(layout: Layout | None, steps: int) -> str:
    return "absent" if layout is None else f"{[steps, *layout.shape]} {str(layout.dtype).removeprefix('torch.')}"
