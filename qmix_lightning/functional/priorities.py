"""How often an episode should be replayed, and how much it then counts."""

from __future__ import annotations

from torch import Tensor

from qmix_lightning.functional.masks import without_padding


def episode_priority(td_error: Tensor, mask: Tensor, *, eta: float = 0.9) -> Tensor:
    r"""Priority of an episode: between the largest and the mean error of its steps.

    .. math:: p = \eta \max_t |\delta_t| + (1 - \eta)\, \frac{1}{L} \sum_{t < L} |\delta_t|

    The mean alone hides the surprise of a step among many that are understood; the largest alone takes an episode with
    one such step for as instructive as one that is full of them.

    Args:
        td_error: Temporal-difference errors δ ``[B, T, 1]``, not their squares; padding may hold anything.
        mask: ``[B, T, 1]`` bool, True on the L steps that were played.
        eta: Share η of the largest error, in [0, 1].

    Returns:
        ``[B]``, 0 for an episode of which no step was played.

    Example:
        >>> import torch
        >>> error, played = torch.tensor([[[3.0], [-1.0], [9.0]]]), torch.tensor([[[True], [True], [False]]])
        >>> episode_priority(error, played)
        tensor([2.9000])

    Kapturowski et al. (2019), Recurrent Experience Replay in Distributed Reinforcement Learning, section 2.3.
    """
    error = without_padding(td_error.abs(), mask)
    mean = error.sum((1, 2)) / mask.sum((1, 2)).clamp(min=1)
    return eta * error.amax((1, 2)) + (1 - eta) * mean


def importance_weights(probability: Tensor, beta: float) -> Tensor:
    r"""How much a drawn episode counts, against the bias of drawing some more often than others.

    .. math:: w_i = \frac{(N P_i)^{-\beta}}{\max_j (N P_j)^{-\beta}} = \left( \frac{\min_j P_j}{P_i} \right)^\beta

    The number N of stored episodes cancels.

    Args:
        probability: Chances P of the drawn episodes to be drawn ``[B]``, positive.
        beta: Exponent β in [0, 1]: 0 leaves the bias, 1 removes it.

    Returns:
        ``[B]``, in (0, 1], the largest being 1.

    Example:
        >>> import torch
        >>> importance_weights(torch.tensor([0.5, 0.25, 0.25]), beta=1.0)
        tensor([0.5000, 1.0000, 1.0000])

    Schaul et al. (2016), Prioritized Experience Replay, section 3.4.
    """
    return (probability.min() / probability).pow(beta)
