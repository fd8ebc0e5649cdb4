"""Episodes that surprise more often."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from qmix_lightning.functional.priorities import importance_weights
from qmix_lightning.replay.samplers.base import AbstractSampler
from qmix_lightning.replay.sum_tree import SumTree


class PrioritisedSampler(AbstractSampler):
    r"""Draws different episodes, one after the other in proportion to a power of their priorities.

    No episode comes twice in a batch, so that equal priorities are uniform sampling exactly: every batch is as likely
    as any other, and all its episodes count alike. The draw is a race, in which episode i arrives after an exponential
    time of rate :math:`r_i`, the first B are the batch, and τ is when the next would arrive:

    .. math::

        r_i = (p_i + \varepsilon)^\alpha, \qquad P_i = 1 - e^{-r_i \tau}, \qquad w_i \propto P_i^{-\beta}

    Given τ, :math:`P_i` is the chance that i is among the first B, so that a sum over the batch, each term divided by
    its :math:`P_i`, is an unbiased estimate of the sum over all episodes. Where the replay is much larger than the
    batch, :math:`P_i` is proportional to :math:`r_i`, as it is for draws with replacement; where the batch is all there
    is, every weight is 1.

    Where every process of a training has a share of the episodes and draws from it alone, sums over all batches are as
    unbiased, and the largest weight of all is 1 once :attr:`least_chance` compares the processes.

    A new episode gets the highest priority that any had so far, 1 before the first is known.

    Args:
        capacity: Number of places for episodes.
        seed: Of the draws.
        alpha: Exponent α in [0, 1] of the priorities: 0 is uniform sampling.
        beta: Exponent β in [0, 1] of the importance weights: 0 leaves the bias of the draw, 1 removes it.
        epsilon: Added to a priority, so that no episode is lost for good.

    Attributes:
        beta: May be changed between draws; it is usually annealed to 1.
        highest: The highest priority so far, None before the first.
        least_chance: What the least chance :math:`P_i` of a batch is replaced by as the one whose weight is 1: the
            identity, unless batches of several processes make up one, of which it has to be the least of all. It is
            called once a draw.

    Raises:
        ValueError: If an exponent is out of range, ε is not positive, or there is no place.

    Example:
        >>> sampler = PrioritisedSampler(capacity=5_000, seed=0, beta=1.0)
        >>> sampler.added(torch.arange(100))
        >>> sampler.set_priorities(torch.arange(100), torch.tensor([1_000.0, *[0.1] * 99]))
        >>> index, weight = sampler.sample(size=100, batch_size=8)
        >>> weight[index == 0] < 0.2, weight[index != 0].unique()
        (tensor([True]), tensor([1.], dtype=torch.float64))

    Source:
        Schaul et al., "Prioritized Experience Replay", 2016, who draw with replacement; Cohen and Kaplan, "Summarizing
        data using bottom-k sketches", 2007, for the chances of a draw without.
    """

    def __init__(
        self, capacity: int, seed: int = 0, *, alpha: float = 0.6, beta: float = 0.4, epsilon: float = 1e-6
    ) -> None:
        super().__init__(seed)
        for name, exponent in (("priority exponent alpha", alpha), ("importance exponent beta", beta)):
            if not 0 <= exponent <= 1:
                raise ValueError(f"The {name} must lie in [0, 1], got {exponent}.")
        if not epsilon > 0:
            raise ValueError(f"epsilon must be positive, got {epsilon}: an episode of priority 0 would never return.")
        self.alpha, self.beta, self.epsilon = alpha, beta, epsilon
        self.highest: float | None = None
        self.least_chance: Callable[[float], float] = float
        self._rates = SumTree(capacity)

    def added(self, index: Tensor) -> None:
        """Give new episodes at places ``[k]`` the highest priority so far."""
        highest = 1.0 if self.highest is None else self.highest
        self._rates.set(index, self._rate(torch.full(index.shape, highest)))

    def set_priorities(self, index: Tensor, priority: Tensor) -> None:
        """Hear how much there is to learn from the episodes at places ``[k]``, all different.

        Args:
            index: ``[k]`` int64.
            priority: ``[k]``, finite and not negative.

        Raises:
            ValueError: If a priority is negative or not finite.
        """
        if not ((priority >= 0) & (priority < torch.inf)).all():
            raise ValueError(
                f"Expected finite priorities of at least 0, got {priority.tolist()}. Where they are errors of a"
                " network, its training has diverged: lower the learning rate, or clip the gradient."
            )
        if len(priority):
            self._rates.set(index, self._rate(priority))
            self.highest = max(self.highest or 0.0, float(priority.max()))

    def sample(self, size: int, batch_size: int) -> tuple[Tensor, Tensor]:
        """Draw ``batch_size`` different places of 0, ..., ``size - 1``, with their importance weights.

        Returns:
            The places ``[batch_size]`` int64, and weights ``[batch_size]`` float64, the largest being 1, that of all
            processes if ``least_chance`` asks them.

        Raises:
            ValueError: If there are fewer episodes.
        """
        if batch_size > size:
            raise ValueError(f"Expected at least {batch_size} episodes to draw {batch_size} from, got {size}.")
        index, chance = self.race(batch_size)
        ours = float(chance.min())
        return index, importance_weights(chance, self.beta) * (self.least_chance(ours) / ours) ** self.beta

    def race(self, batch_size: int) -> tuple[Tensor, Tensor]:
        """Draw different places, each with its chance of being among them.

        Returns:
            The places ``[batch_size]`` int64, in the order of their arrival, and the chances P ``[batch_size]``.
        """
        index, rate = torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.float64)
        while len(index) < batch_size:
            points = torch.rand(batch_size - len(index), dtype=torch.float64, generator=self._generator)
            # To skip who was drawn already is the same as to draw from the others only.
            drawn = torch.tensor(list(dict.fromkeys(self._rates.find(points * self._rates.total).tolist())))
            index, rate = torch.cat([index, drawn]), torch.cat([rate, self._rates[drawn]])
            self._rates.set(drawn, torch.zeros(len(drawn)))
        left = self._rates.total
        self._rates.set(index, rate)
        # The wait for each arrival, and for the one after the last, has the rate of all who had not arrived before it.
        pending = torch.cat([rate, rate.new_tensor([left])]).flip(0).cumsum(0).flip(0)
        tau = (torch.empty_like(pending).exponential_(generator=self._generator) / pending).sum()
        return index, -torch.expm1(-rate * tau)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the source of randomness, the rates, the highest priority and β."""
        rates = self._rates[torch.arange(self._rates.capacity)]
        state = {"rates": rates[rates > 0], "highest": self.highest, "alpha": self.alpha, "beta": self.beta}
        return {**super().state_dict(), **state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on drawing from the :meth:`state_dict` of a sampler of the same exponent α.

        Raises:
            ValueError: If the state is of another kind of sampler, or of another α.
        """
        super().load_state_dict(state)
        self._rates = SumTree(self._rates.capacity)
        self._rates.set(torch.arange(len(state["rates"])), state["rates"])
        self.highest, self.beta = state["highest"], state["beta"]

    def inherit(self, states: Sequence[dict[str, Any]], source: Tensor, place: Tensor) -> None:
        """Take over episodes that other samplers knew, with their priorities, and go on from their highest and their β.

        Raises:
            ValueError: If a state is of another kind of sampler, or of another α.
        """
        super().inherit(states, source, place)
        self._rates = SumTree(self._rates.capacity)
        for number, state in enumerate(states):
            now = (source == number).nonzero().flatten()
            self._rates.set(now, state["rates"][place[now]])
        self.highest = max((state["highest"] for state in states if state["highest"] is not None), default=None)
        self.beta = states[0]["beta"] if states else self.beta

    def _refuse_other_kind(self, state: dict[str, Any]) -> None:
        super()._refuse_other_kind(state)
        if state["alpha"] != self.alpha:
            raise ValueError(f"Expected the state of a sampler with alpha {self.alpha}, got one with {state['alpha']}.")

    def _rate(self, priority: Tensor) -> Tensor:
        return (priority.to(torch.float64) + self.epsilon) ** self.alpha
