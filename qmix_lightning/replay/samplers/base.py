"""What a sampler is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Generator, Tensor


class AbstractSampler(ABC):
    """Chooses which of the stored episodes are replayed, from a source of randomness of its own.

    Args:
        seed: Of the draws.
    """

    def __init__(self, seed: int = 0) -> None:
        self._generator = Generator().manual_seed(seed)

    @abstractmethod
    def sample(self, size: int, batch_size: int) -> tuple[Tensor, Tensor | None]:
        """Draw ``batch_size`` different places of 0, ..., ``size - 1``.

        Returns:
            The places ``[batch_size]`` int64, and how much the episode at each counts in the loss, ``[batch_size]`` in
            (0, 1], or None where all count alike.
        """

    def added(self, index: Tensor) -> None:  # noqa: B027
        """Hear of new episodes at places ``[k]``; a sampler without priorities need not care."""

    def set_priorities(self, index: Tensor, priority: Tensor) -> None:
        """Hear how much there is to learn from the episodes at places ``[k]``.

        Raises:
            TypeError: If all episodes are drawn alike, whatever their priorities.
        """
        raise TypeError(
            f"Expected a sampler that goes by priorities, got a {type(self).__name__}. Take a PrioritisedSampler, in a"
            " recipe data.prioritised: true."
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the source of randomness, and whatever else the next draw depends on."""
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on drawing from the :meth:`state_dict` of a sampler of the same kind and options.

        Raises:
            ValueError: If the state is of another kind of sampler.
        """
        self._refuse_other_kind(state)
        self._generator.set_state(state["generator"])

    def inherit(self, states: Sequence[dict[str, Any]], source: Tensor, place: Tensor) -> None:
        """Take over episodes that other samplers knew; the draws go on from this one's own source of randomness.

        Args:
            states: The :meth:`state_dict` of each of the others, samplers of the same kind and options.
            source: ``[k]`` int64, whose episode is now at place 0, ..., k - 1.
            place: ``[k]`` int64, at which place it was there.

        Raises:
            ValueError: If a state is of another kind of sampler.
        """
        for state in states:
            self._refuse_other_kind(state)

    def _refuse_other_kind(self, state: dict[str, Any]) -> None:
        if state.keys() != (known := self.state_dict()).keys():
            raise ValueError(
                f"Expected the state of a {type(self).__name__}, with {', '.join(known)}, got {', '.join(state)}. Make"
                " the sampler that was saved, in a recipe by data.prioritised."
            )
