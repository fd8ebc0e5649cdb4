"""The monotonic mixer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Final, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from qmix_lightning.mixers.base import Mixer
from qmix_lightning.mixers.hypernet import hypernetwork
from qmix_lightning.spec import TaskSpec

MonotoneActivation = Literal["abs", "softplus", "relu", "quadratic"]

_ACTIVATIONS: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "abs": torch.abs,
    "softplus": F.softplus,
    "relu": F.relu,
    "quadratic": lambda weight: 0.5 * weight * weight,
}


class QMixer(Mixer):
    r"""QMIX: a network that the state makes, and that grows with every agent's value.

    .. math:: Q_{tot} = \mathrm{elu}\big(Q\,|W_1(s)| + b_1(s)\big)\,|w_f(s)| + V(s)

    Parameters and their order of creation are those of ``torchrl.modules.models.multiagent.QMixer`` with one layer of
    hypernetwork, and those of PyMARL's ``QMixer`` with one layer and with two: ``hyper_w_1``, ``hyper_w_final``,
    ``hyper_b_1``, ``V``, in which a network of two layers is a Sequential with the entries ``0`` and ``2``. The same
    seed gives the same weights, and state dicts are exchangeable.

    Args:
        state_shape: Shape of one state, or the task's sizes, which tell it and the number of agents.
        mixing_embed_dim: Width E of the mixing network.
        n_agents: Number of agents N; not needed with the task's sizes.
        device: Where the parameters are made.
        hypernet_layers: Layers of the networks that make the mixing weights W_1 and w_f. None takes 2, as PyMARL's
            ``qmix.yaml``, with the task's sizes, and 1, as TorchRL, with the shape of a state.
        hypernet_embed: Width of their hidden layer, if there is one.
        monotone_activation: What keeps the mixing weights from being negative: their absolute value ("abs", as in the
            paper, TorchRL and PyMARL), "softplus", "relu", or half their square ("quadratic").

    Raises:
        ValueError: If a size is missing or not positive, or ``monotone_activation`` is unknown.

    Example:
        >>> mixer = QMixer(state_shape=5, mixing_embed_dim=32, n_agents=3)
        >>> mixer(torch.zeros(4, 7, 3, 1), torch.zeros(4, 7, 5)).shape
        torch.Size([4, 7, 1])
        >>> spec = TaskSpec("3m", n_agents=3, n_actions=9, observation_size=30, state_size=48, episode_limit=60)
        >>> QMixer(spec).state_shape
        torch.Size([48])

    Rashid et al. (2018), QMIX: Monotonic Value Function Factorisation for Deep Multi-Agent RL, figure 2; softplus and
    quadratic are the alternatives in the mixers of PyMARL2's descendants (``qmix_pos_func``).
    """

    monotonic: ClassVar[bool] = True

    def __init__(
        self,
        state_shape: int | Sequence[int] | TaskSpec,
        mixing_embed_dim: int = 32,
        n_agents: int | None = None,
        device: torch.device | str | None = None,
        *,
        hypernet_layers: Literal[1, 2] | None = None,
        hypernet_embed: int = 64,
        monotone_activation: MonotoneActivation = "abs",
    ) -> None:
        if hypernet_layers is None:
            hypernet_layers = 2 if isinstance(state_shape, TaskSpec) else 1
        if isinstance(state_shape, TaskSpec):
            n_agents = state_shape.n_agents if n_agents is None else n_agents
            state_shape = state_shape.state_size
        if n_agents is None:
            raise ValueError("QMixer expected n_agents, or a TaskSpec in place of state_shape, got neither.")
        if mixing_embed_dim < 1 or hypernet_embed < 1:
            raise ValueError(
                f"QMixer expected positive widths, got mixing_embed_dim={mixing_embed_dim} and"
                f" hypernet_embed={hypernet_embed}."
            )
        if monotone_activation not in _ACTIVATIONS:
            raise ValueError(
                f"Unknown monotone_activation {monotone_activation!r}, expected one of {', '.join(_ACTIVATIONS)}."
            )
        super().__init__(n_agents=n_agents, needs_state=True, state_shape=state_shape, device=device)
        self.embed_dim, self.monotone_activation = mixing_embed_dim, monotone_activation

        def weights(outputs: int) -> nn.Module:
            return hypernetwork(self.state_dim, outputs, layers=hypernet_layers, embed=hypernet_embed, device=device)

        self.hyper_w_1 = weights(self.embed_dim * n_agents)
        self.hyper_w_final = weights(self.embed_dim)
        self.hyper_b_1 = hypernetwork(self.state_dim, self.embed_dim, device=device)
        self.V = hypernetwork(self.state_dim, 1, layers=2, embed=self.embed_dim, device=device)

    def mix(self, chosen_action_value: Tensor, state: Tensor | None) -> Tensor:
        """Mix ``[*B, N, 1]`` with the state ``[*B, *state_shape]`` to ``[*B, 1]``."""
        assert state is not None, "QMixer needs the state."
        batch = chosen_action_value.shape[:-2]
        # Some steps of a longer tensor, as they are, would be multiplied one by one in each of the four networks.
        state = state.reshape(*batch, self.state_dim).contiguous()
        w_1, w_final = self._weights(state)
        # Both products are tiny, one for each element of the batch. Multiplying and adding takes two thirds of the time
        # of torch.bmm on a CPU (forward and backward, 1920 states, 3 agents).
        hidden = F.elu((chosen_action_value * w_1).sum(-2) + self.hyper_b_1(state))
        joint: Tensor = (hidden * w_final).sum(-1, keepdim=True) + self.V(state)
        return joint

    def mixing_weights(self, state: Tensor) -> dict[str, Tensor]:
        """The weights ``"w_1"`` ``[*B, N, E]`` of the agents' values and ``"w_final"`` ``[*B, E]`` of the layer above.

        Example:
            >>> mixer = QMixer(state_shape=5, mixing_embed_dim=32, n_agents=3)
            >>> {name: list(weight.shape) for name, weight in mixer.mixing_weights(torch.zeros(7, 5)).items()}
            {'w_1': [7, 3, 32], 'w_final': [7, 32]}
        """
        batch = state.shape[: state.ndim - len(self.state_shape)]
        w_1, w_final = self._weights(state.reshape(*batch, self.state_dim))
        return {"w_1": w_1, "w_final": w_final}

    def _weights(self, state: Tensor) -> tuple[Tensor, Tensor]:
        positive = _ACTIVATIONS[self.monotone_activation]
        w_1 = positive(self.hyper_w_1(state)).reshape(*state.shape[:-1], self.n_agents, self.embed_dim)
        return w_1, positive(self.hyper_w_final(state))
