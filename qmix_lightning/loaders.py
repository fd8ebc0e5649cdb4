"""What Lightning iterates over: batches that are made when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tensordict import TensorDict

_ENDLESS = 2**31 - 1


class ReplayedBatches:
    """The training batches, without end.

    Their number is given, and so Lightning does not fetch one ahead of the update before it.

    Args:
        next_batch: Makes the next one.
    """

    def __init__(self, next_batch: Callable[[], TensorDict]) -> None:
        self._next_batch = next_batch

    def __len__(self) -> int:
        return _ENDLESS

    def __iter__(self) -> Iterator[TensorDict]:
        while True:
            yield self._next_batch()

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the data module remembers."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to do."""


class PlayedBattles:
    """One batch of battles, played when it is asked for.

    Args:
        play: Plays them.
    """

    def __init__(self, play: Callable[[], TensorDict]) -> None:
        self._play = play

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[TensorDict]:
        yield self._play()
