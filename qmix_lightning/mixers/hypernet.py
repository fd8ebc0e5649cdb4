"""Networks whose outputs are the weights of another network."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn


def hypernetwork(
    state_size: int,
    outputs: int,
    *,
    layers: Literal[1, 2] = 1,
    embed: int = 64,
    device: torch.device | str | None = None,
) -> nn.Module:
    """A network from the state to ``outputs`` weights.

    Args:
        state_size: Length S of the state.
        outputs: How many weights it makes.
        layers: 1 is linear (TorchRL); 2 has one hidden ReLU layer (PyMARL's ``qmix.yaml``).
        embed: Width of the hidden layer.
        device: Where the parameters are made.

    Returns:
        A module ``[..., S]`` to ``[..., outputs]``.

    Raises:
        ValueError: If ``layers`` is neither 1 nor 2.

    Example:
        >>> hypernetwork(8, 96, layers=2, embed=64)
        Sequential(
          (0): Linear(in_features=8, out_features=64, bias=True)
          (1): ReLU()
          (2): Linear(in_features=64, out_features=96, bias=True)
        )

    Ha, Dai and Le (2016), HyperNetworks.
    """
    if layers == 1:
        return nn.Linear(state_size, outputs, device=device)
    if layers == 2:
        return nn.Sequential(
            nn.Linear(state_size, embed, device=device), nn.ReLU(), nn.Linear(embed, outputs, device=device)
        )
    raise ValueError(f"A hypernetwork has 1 or 2 layers, got hypernet_layers={layers!r}.")
