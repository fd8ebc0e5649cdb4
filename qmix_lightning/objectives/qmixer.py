"""The loss of QMIX and of every other mixer of the agents' values."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from tensordict import NestedKey, TensorDict, TensorDictBase, unravel_key
from tensordict.nn import TensorDictModule, TensorDictModuleBase, dispatch, set_interaction_type
from torch import Tensor, nn

from qmix_lightning.actors.action_spaces import GREEDY_SPACES, find_action_space
from qmix_lightning.actors.safe_sequential import SafeSequential
from qmix_lightning.functional.masks import masked_mean, without_padding
from qmix_lightning.functional.precision import as_given
from qmix_lightning.mixers.base import Mixer
from qmix_lightning.objectives.base import AbstractLoss
from qmix_lightning.objectives.batch import (
    Batch,
    Memory,
    read_batch,
    refuse_malformed_actions,
    refuse_misplaced_steps,
    refuse_negative_weights,
    unequal_shapes,
    write_error,
)
from qmix_lightning.objectives.factored_value import FactoredValue, find_head
from qmix_lightning.objectives.layouts import Layout, episodes, transitions, unrolled
from qmix_lightning.spec import (
    ACTION,
    ACTION_MASK,
    ACTION_VALUE,
    CHOSEN_ACTION_VALUE,
    GLOBAL_VALUE,
    OBSERVATION,
    STATE,
    TD_ERROR,
)

_DISTANCES: Final[dict[str, Callable[..., Tensor]]] = {"l2": F.mse_loss, "l1": F.l1_loss, "smooth_l1": F.smooth_l1_loss}
_CHOICES: Final = {
    "loss_function": tuple(_DISTANCES),
    "layout": ("transition", "episode"),
    "reduction": ("mean", "sum", "none"),
    "td_error": ("squared", "absolute"),
}


class QMixerLoss(AbstractLoss):
    r"""Regresses the value of the joint action, mixed from the agents' values, towards a target that bootstraps.

    .. math::

        L = \mathrm{mean}_t\, d\big(Q_{tot}(s_t, a_t),\; G_t\big), \qquad
        G_t = r_t + \gamma (1 - \text{terminated}_t)\, Q^-_{tot}(s_{t+1}, a^*), \qquad
        a^*_i = \arg\max_{a\ \text{legal}} Q_i(o_{i,t+1}, a)

    with Q⁻ the target networks and TD(0) returns, which :meth:`make_value_estimator` exchanges. By default everything
    is what ``torchrl.objectives.multiagent.QMixerLoss`` computes, but for recurrent networks, whose memory it gets
    wrong: the preferred action is the target network's own, there is no mask, and each transition holds its next step.
    Opt-ins: ``double_q``, ``layout="episode"``, and by :meth:`set_keys`

    * ``mask``: ``[*B, 1]`` bool, false on padding, which then counts for nothing, whatever it holds;
    * ``priority_weight``: how much each step, or each row, counts: the mean is ``Σ w d / Σ w``;
    * ``action_mask``: ``[*B, N, A]`` bool, the legal actions, if no QValueModule of the network says where they are;
    * ``agent_mask``: ``[*B, N]`` bool, false for agents that are not there, whose values are left out of the mixing;
    * ``is_init``: ``[*B, 1]`` bool, the first step of each trajectory. A network that reads it has a memory, and is run
      over whole trajectories in the last dimension.

    The squared error of each transition is written to ``"td_error"`` ``[*B, 1]`` (``[B, T+1, 1]`` for episodes, whose
    last step only bootstraps), 0 on padding.

    Under autocast the local network computes in half precision, and everything after it in single.

    Args:
        local_value_network: TensorDict module that writes ``("agents", "action_value")`` ``[*B, N, A]``. It may end
            with a :class:`~qmix_lightning.actors.qvalue.QValueModule`. A plain module is fed the observations.
        mixer_network: A :class:`~qmix_lightning.mixers.base.Mixer`, or a TensorDict module around one.
        loss_function: The distance d: ``"l2"``, ``"l1"`` or ``"smooth_l1"``.
        delay_value: Whether the target networks are copies, to be updated by a
            :class:`~qmix_lightning.objectives.target_update.hard.HardUpdate` or ``SoftUpdate``, or the online networks
            themselves, without gradient.
        gamma: Refused; see :meth:`make_value_estimator`.
        action_space: The format of the actions, ``"categorical"``, ``"one-hot"`` or ``"mult-one-hot"``, or a TorchRL
            spec; None asks the local network, and takes episodes to be categorical.
        priority_key: Refused; see :meth:`set_keys`.
        double_q: Whether the online network chooses the action that the target network then values, against
            overestimation. Costs nothing for episodes and one more forward pass for transitions.
        layout: ``"transition"``: each step holds the step after it under ``"next"``, any batch dimensions; the last is
            time if the local network reads ``"is_init"``. ``"episode"``: ``[B, T+1]`` consecutive steps, stored once;
            each network runs over them once, from the first step.
        reduction: What is returned: the ``"mean"`` of the distances, their ``"sum"``, or each (``"none"``, ``[*B]``).
        td_error: What is written as the priority: the ``"squared"`` error, as TorchRL does, or the ``"absolute"`` one,
            of which prioritised replay takes powers.
        diagnostics: Whether to return the mean ``"value"`` and ``"target"`` too, detached.

    Raises:
        TypeError: If ``gamma`` is given, or the mixer is neither a Mixer nor a TensorDict module.
        RuntimeError: If ``priority_key`` is given.
        ValueError: If ``loss_function``, ``layout`` or ``action_space`` is unknown, the action space contradicts the
            network's, or a network has uninitialised parameters.

    Example:
        >>> from qmix_lightning.mixers.qmix import QMixer
        >>> loss = QMixerLoss(nn.Linear(10, 4), QMixer(state_shape=5, n_agents=3), delay_value=False, layout="episode")
        >>> _ = loss.make_value_estimator("TDLambda", gamma=0.99, lmbda=0.6)
        >>> no = torch.zeros(2, 9, 1, dtype=torch.bool)
        >>> episodes = TensorDict(
        ...     {
        ...         "agents": {
        ...             "observation": torch.randn(2, 9, 3, 10),
        ...             "action": torch.zeros(2, 9, 3, dtype=torch.int64),
        ...             "action_mask": torch.ones(2, 9, 3, 4, dtype=torch.bool),
        ...         },
        ...         "state": torch.randn(2, 9, 5),
        ...         "next": {"reward": torch.ones(2, 9, 1), "done": no, "terminated": no},
        ...     },
        ...     [2, 9],
        ... )
        >>> loss(episodes)["loss"].backward()
        >>> episodes["td_error"].shape
        torch.Size([2, 9, 1])

    Rashid et al. (2018), QMIX, equation 6; van Hasselt, Guez and Silver (2016) for double Q-learning.
    """

    @dataclass(frozen=True)
    class _AcceptedKeys:
        """Where the loss reads and writes; ``reward``, ``done`` and ``terminated`` are below ``"next"``."""

        advantage: NestedKey = "advantage"
        value_target: NestedKey = "value_target"
        local_value: NestedKey = CHOSEN_ACTION_VALUE
        global_value: NestedKey = GLOBAL_VALUE
        action_value: NestedKey = ACTION_VALUE
        action: NestedKey = ACTION
        priority: NestedKey = TD_ERROR
        reward: NestedKey = "reward"
        done: NestedKey = "done"
        terminated: NestedKey = "terminated"
        mask: NestedKey | None = None
        priority_weight: NestedKey | None = None
        action_mask: NestedKey = ACTION_MASK
        agent_mask: NestedKey | None = None
        is_init: NestedKey = "is_init"

    default_keys = _AcceptedKeys

    def __init__(
        self,
        local_value_network: nn.Module,
        mixer_network: nn.Module,
        *,
        loss_function: Literal["l2", "l1", "smooth_l1"] = "l2",
        delay_value: bool = True,
        gamma: float | None = None,
        action_space: Any = None,
        priority_key: NestedKey | None = None,
        double_q: bool = False,
        layout: Literal["transition", "episode"] = "transition",
        reduction: Literal["mean", "sum", "none"] = "mean",
        td_error: Literal["squared", "absolute"] = "squared",
        diagnostics: bool = False,
    ) -> None:
        super().__init__()
        if gamma is not None:
            raise TypeError(
                "Passing gamma / lambda parameters through the loss constructor is a deprecated feature. To customize"
                " your value function, run `loss_module.make_value_estimator(ValueEstimators.<value_fun>, gamma=val)`."
            )
        if priority_key is not None:
            raise RuntimeError(
                "Setting 'priority' via the constructor is deprecated, use .set_keys(<key>='some_key') instead."
            )
        options = {"loss_function": loss_function, "layout": layout, "reduction": reduction, "td_error": td_error}
        for name, option in options.items():
            if option not in _CHOICES[name]:
                raise ValueError(f"Unknown {name} {option!r}. Choose one of {', '.join(_CHOICES[name])}.")
        self.loss_function, self.delay_value, self.double_q = loss_function, delay_value, double_q
        self.layout, self.reduction, self.td_error, self.diagnostics = layout, reduction, td_error, diagnostics
        self.out_keys = ["loss", "value", "target"] if diagnostics else ["loss"]
        self._inspected = False
        self.convert_to_functional(
            self._local_module(local_value_network), "local_value_network", create_target_params=delay_value
        )
        self.convert_to_functional(self._mixer_module(mixer_network), "mixer_network", create_target_params=delay_value)
        self.action_space = self._find_action_space(action_space)
        self.keys_changed()

    def _local_module(self, network: nn.Module) -> TensorDictModuleBase:
        if isinstance(network, TensorDictModuleBase):
            return network
        return TensorDictModule(network, [OBSERVATION], [self.tensor_keys.action_value])

    def _mixer_module(self, network: nn.Module) -> TensorDictModuleBase:
        if isinstance(network, TensorDictModuleBase):
            return network
        if not isinstance(network, Mixer):
            raise TypeError(
                f"Expected a Mixer or a TensorDictModule as mixer_network, got {type(network).__name__}. Wrap it:"
                " TensorDictModule(mixer, [('agents', 'chosen_action_value'), 'state'], ['chosen_action_value'])."
            )
        in_keys = [self.tensor_keys.local_value, *([STATE] if network.needs_state else [])]
        return TensorDictModule(network, in_keys, [self.tensor_keys.global_value])

    def _find_action_space(self, action_space: Any) -> str:
        network = self.local_value_network
        head = find_head(network, self.tensor_keys.action_value)
        for owner, name in ((head, "action_space"), (network, "spec"), (network, "action_space")):
            action_space = getattr(owner, name, None) if action_space is None else action_space
        if action_space is None and self.layout == "episode":
            action_space = "categorical"
        found = find_action_space(action_space)
        if found not in GREEDY_SPACES:
            raise ValueError(
                f"action_space must be one of {', '.join(GREEDY_SPACES)}, got {found!r}, in which no action is greedy."
            )
        return found

    def keys_changed(self) -> None:
        """Find out anew what the networks read and write."""
        super().keys_changed()
        if "action_space" not in self.__dict__:
            return
        keys = self.tensor_keys
        head = find_head(self.local_value_network, keys.action_value)
        if head is not None and head.action_space != self.action_space:
            raise ValueError(
                f"The loss was told action_space={self.action_space!r}, but the QValueModule of the local network has"
                f" {head.action_space!r}. Give both the same."
            )
        self.networks_changed()
        own = None if head is None else head.action_mask_key
        chosen = keys.action_mask if keys.action_mask != self.default_keys().action_mask else own
        self._needs_mask = chosen is not None
        self._action_mask = keys.action_mask if head is None or self.layout == "episode" else None
        self._action_mask = self._action_mask if chosen is None else chosen
        step = [key for key in (*self._online.reads, self._action_mask) if key is not None]
        outcome = [("next", key) for key in (keys.reward, keys.done, keys.terminated)]
        following = [("next", key) for key in step] if self.layout == "transition" else []
        marks = [key for key in (keys.mask, keys.priority_weight) if key is not None]
        self._in_keys = list(dict.fromkeys(map(unravel_key, (keys.action, *outcome, *step, *following, *marks))))

    def networks_changed(self) -> None:
        """Look at the networks anew."""
        super().networks_changed()
        if "action_space" not in self.__dict__:
            return
        self._recurrent = _last(self.tensor_keys.is_init) in map(_last, self.local_value_network.in_keys)
        self._memory: Memory = "row" if self.layout == "episode" else "trajectory" if self._recurrent else "none"
        self._online = self._factored(*map(self.online_network, self._network_names))
        self._target = self._factored(*map(self.target_network, self._network_names))

    def _factored(self, local: nn.Module, mixer: nn.Module) -> FactoredValue:
        return FactoredValue(local, mixer, self.tensor_keys, self.action_space)

    @property
    def in_keys(self) -> list[NestedKey]:
        """What the loss reads, always in the same order."""
        return self._in_keys

    @property
    def global_value_network(self) -> SafeSequential:
        """The local network and the mixer in turn."""
        return SafeSequential(self.local_value_network, self.mixer_network)

    @property
    def global_value_network_in_keys(self) -> list[NestedKey]:
        """What the local network and the mixer read."""
        return self.global_value_network.in_keys  # type: ignore[no-any-return]

    @property
    def target_local_value_network_params(self) -> TensorDictBase:
        """Parameters of the target of the local network."""
        return self.target_params("local_value_network")

    @property
    def target_mixer_network_params(self) -> TensorDictBase:
        """Parameters of the target of the mixer."""
        return self.target_params("mixer_network")

    @dispatch(auto_batch_size=False)  # type: ignore[untyped-decorator]
    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """Compute the loss, and write the error of each step, by default squared, into the tensordict.

        Called with tensors in place of a tensordict, in the order of ``in_keys`` or by their names joined by ``"_"``
        (``next_reward=``), it returns the tensors of ``out_keys``.

        Args:
            tensordict: A batch in the layout that the loss was made for.

        Returns:
            ``"loss"``, a scalar unless ``reduction="none"``, and with ``diagnostics`` the mean ``"value"`` and
            ``"target"``.

        Raises:
            KeyError: If an entry is missing.
            RuntimeError: If reward, done or terminated are not ``[*B, 1]``.
            ValueError: If another entry has the wrong shape, an agent has no legal action, or, in the first batch, a
                one-hot action is none.
        """
        self.warn_without_update()
        keys, estimator = self.tensor_keys, self._value_estimator
        self.follow_networks()
        batch = read_batch(
            tensordict, keys, action_mask=self._action_mask, needs_mask=self._needs_mask, group=estimator.group_key
        )
        time_dim = batch.time_dim(estimator.time_dim, self._memory)
        if not (self._inspected or torch.compiler.is_compiling()):
            self._inspect(batch)
        if self._recurrent:
            batch = batch.ended_before(keys.is_init)
        with set_interaction_type(self.deterministic_sampling_mode), _over_time(self._recurrent):
            value, next_value = self._values(self._online, self._target, batch, self.double_q)
        steps = batch.without_last() if self.layout == "episode" else batch
        if next_value.shape != steps.reward.shape:
            raise RuntimeError(unequal_shapes(steps, next_value.shape))
        with as_given(value.device):
            target = estimator.forward(
                without_padding(steps.reward, steps.mask), next_value, steps.terminated, steps.done,
                mask=steps.mask, time_dim=time_dim, steps=steps.steps, groups=steps.groups,
            )  # fmt: skip

            error = without_padding(value.detach() - target, steps.mask)
            error = error.abs() if self.td_error == "absolute" else error.square()
            error = F.pad(error, (0, 0, 0, 1)) if self.layout == "episode" else error
            error = error if tensordict.device is None else error.to(tensordict.device)
            write_error(tensordict, keys.priority, error)
            losses = {"loss": self._reduce(value, target, steps)}
            if self.diagnostics:
                losses["value"], losses["target"] = (masked_mean(v, steps.mask) for v in (value.detach(), target))
        return TensorDict(losses, [])

    @property
    def _values(self) -> Layout:
        if self.layout == "episode":
            return episodes
        return partial(unrolled, is_init=self.tensor_keys.is_init) if self._recurrent else transitions

    def follow_networks(self) -> tuple[FactoredValue, FactoredValue]:
        """See to what was changed about the networks behind our back; the online and the target ones."""
        if torch.compiler.is_compiling():
            return self._online, self._target
        self.notice_changes()
        for factored, network in ((self._online, self.online_network), (self._target, self.target_network)):
            local, mixer = map(network, self._network_names)
            if factored.local is not local or factored.mixer is not mixer or factored.hooked():
                self.networks_changed()
                break
        return self._online, self._target

    def _inspect(self, batch: Batch) -> None:
        """Refuse, in the first batch, what no shape tells."""
        self._inspected = True
        head = find_head(self.local_value_network, self.tensor_keys.action_value)
        refuse_malformed_actions(batch, self.action_space, getattr(head, "var_nums", None))
        refuse_negative_weights(batch)
        if self._memory != "none":
            refuse_misplaced_steps(batch, stored_once=self.layout == "episode")

    def _reduce(self, value: Tensor, target: Tensor, steps: Batch) -> Tensor:
        distance = _DISTANCES[self.loss_function]
        if steps.mask is None and steps.weight is None and self.reduction != "none":
            return distance(value, target, reduction=self.reduction)
        each = distance(value, target, reduction="none")
        if self.reduction == "mean":
            return masked_mean(each, steps.mask, steps.weight)
        each = without_padding(each, steps.mask)
        each = each if steps.weight is None else each * steps.weight
        return each.sum() if self.reduction == "sum" else each.squeeze(-1)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_online": None, "_target": None}

    def __repr__(self) -> str:
        """One line; the networks print themselves."""
        options = ("loss_function", "delay_value", "action_space", "double_q", "layout")
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in options)
        return f"{type(self).__name__}({shown}, value_estimator={self._value_estimator})"


def _last(key: NestedKey) -> str:
    return key if isinstance(key, str) else _last(key[-1])


def _over_time(recurrent: bool) -> AbstractContextManager[None]:
    """Tell TorchRL's recurrent modules, if there can be any, that the last batch dimension is time."""
    rnn = sys.modules.get("torchrl.modules.tensordict_module.rnn") if recurrent else None
    return nullcontext() if rnn is None else rnn.set_recurrent_mode(True)
