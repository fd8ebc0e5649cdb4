"""How far a value function is from what then happened."""

from __future__ import annotations

import torch
from torch import Tensor

from qmix_lightning.metrics.outcome import EpisodeMean


class Overestimation(EpisodeMean):
    r"""Predicted minus realised return, averaged over the steps of each episode.

    .. math:: \frac{1}{T} \sum_t \big(Q_{tot}(s_t, a_t) - \sum_{k \ge t} \gamma^{k-t} r_k\big)

    Above 0 the values promise more than is earned.

    Example:
        >>> metric = Overestimation()
        >>> predicted = torch.tensor([[[5.0], [4.0], [9.0]]])
        >>> realised = torch.tensor([[[3.0], [2.0], [0.0]]])
        >>> metric.update(predicted, realised, torch.tensor([[[True], [True], [False]]]))
        >>> metric.compute()
        tensor(2.)

    Source:
        van Hasselt, Guez and Silver, "Deep Reinforcement Learning with Double Q-learning", 2016, figure 3.
    """

    def update(self, predicted: Tensor, realised: Tensor, mask: Tensor) -> None:
        """Add episodes by two values of each step ``[B, T, 1]`` and the mask of their played steps, bool."""
        off = (predicted - realised).masked_fill(~mask, 0.0).sum((1, 2), dtype=torch.float64)
        self.add(off / mask.sum((1, 2)))
