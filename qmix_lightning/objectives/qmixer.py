"""The loss of QMIX and of every other mixer of the agents' values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from tensordict import NestedKey, TensorDict, TensorDictBase, unravel_key
from tensordict.nn import TensorDictModule, TensorDictModuleBase, TensorDictSequential
from torch import Tensor, nn

from qmix_lightning.functional.masks import masked_mean, seen_steps, without_padding
from qmix_lightning.mixers.base import Mixer
from qmix_lightning.objectives.base import AbstractLoss
from qmix_lightning.objectives.qvalue import find_action_space, greedy_action, value_of_action
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


class QMixerLoss(AbstractLoss):
    r"""Regresses the value of the joint action, mixed from the agents' values, towards a target that bootstraps.

    .. math::

        L = \mathrm{mean}_t\, d\big(Q_{tot}(s_t, a_t),\; G_t\big), \qquad
        G_t = r_t + \gamma (1 - \text{terminated}_t)\, Q^-_{tot}(s_{t+1}, a^*), \qquad
        a^*_i = \arg\max_{a\ \text{legal}} Q_i(o_{i,t+1}, a)

    with Q⁻ the target networks and TD(0) returns, which :meth:`make_value_estimator` exchanges. By default everything
    is what ``torchrl.objectives.multiagent.QMixerLoss`` computes: the preferred action is the target network's own,
    there is no mask, and each transition holds its next step. Opt-ins: ``double_q``, ``layout="episode"``, and a mask
    of padding by ``set_keys(mask="mask")``.

    The squared error of each transition is written to ``"td_error"`` ``[*B, 1]`` (``[B, T+1, 1]`` for episodes, whose
    last step only bootstraps), 0 on padding.

    Args:
        local_value_network: TensorDict module that writes ``("agents", "action_value")`` ``[*B, N, A]``. It may end
            with a :class:`~qmix_lightning.objectives.qvalue.QValueModule`. A plain module is fed the observations.
        mixer_network: A :class:`~qmix_lightning.mixers.base.Mixer`, or a TensorDict module around one.
        loss_function: The distance d: ``"l2"``, ``"l1"`` or ``"smooth_l1"``.
        delay_value: Whether the target networks are copies, to be updated by a
            :class:`~qmix_lightning.objectives.target_update.HardUpdate` or ``SoftUpdate``, or the online networks
            themselves, without gradient.
        gamma: Refused; see :meth:`make_value_estimator`.
        action_space: The format of the actions, ``"categorical"``, ``"one-hot"`` or ``"mult-one-hot"``, or a TorchRL
            spec; None asks the local network, and takes episodes to be categorical.
        priority_key: Refused; see :meth:`set_keys`.
        double_q: Whether the online network chooses the action that the target network then values, against
            overestimation. Costs nothing for episodes and one more forward pass for transitions.
        layout: ``"transition"``: each step holds the step after it under ``"next"``, any batch dimensions.
            ``"episode"``: ``[B, T+1]`` consecutive steps, stored once; each network runs over them once, from the first
            step.
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
        action_mask: NestedKey = ACTION_MASK

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
        if loss_function not in _DISTANCES:
            raise ValueError(f"Unknown loss {loss_function!r}. Choose one of {list(_DISTANCES)}.")
        if layout not in ("transition", "episode"):
            raise ValueError(f"Unknown layout {layout!r}. Choose 'transition' or 'episode'.")
        self.loss_function, self.delay_value, self.double_q = loss_function, delay_value, double_q
        self.layout, self.diagnostics = layout, diagnostics
        self.out_keys = ["loss", "value", "target"] if diagnostics else ["loss"]
        self.keep_network("local_value_network", self._local_module(local_value_network), target=delay_value)
        self.keep_network("mixer_network", self._mixer_module(mixer_network), target=delay_value)
        self.action_space = self._find_action_space(action_space)

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

    @property
    def _head(self) -> Any:
        """The QValueModule, ours or TorchRL's, that ends the local network, if we can do without it."""
        network = self.local_value_network
        last: Any = network.module[-1] if isinstance(network, TensorDictSequential) else None
        if type(last).__name__ != "QValueModule":
            return None
        return last if unravel_key(last.action_value_key) == unravel_key(self.tensor_keys.action_value) else None

    def _find_action_space(self, action_space: Any) -> str:
        network, head = self.local_value_network, self._head
        for owner, name in ((head, "action_space"), (network, "spec"), (network, "action_space")):
            action_space = getattr(owner, name, None) if action_space is None else action_space
        if action_space is None and self.layout == "episode":
            action_space = "categorical"
        found = find_action_space(action_space)
        if head is not None and head.action_space != found:
            raise ValueError(
                f"The loss was told action_space={found!r}, but the QValueModule of the local network has"
                f" {head.action_space!r}. Give both the same."
            )
        return found

    @property
    def target_local_value_network_params(self) -> TensorDictBase:
        """Parameters of the target of the local network."""
        return self.target_params("local_value_network")

    @property
    def target_mixer_network_params(self) -> TensorDictBase:
        """Parameters of the target of the mixer."""
        return self.target_params("mixer_network")

    @property
    def _network_keys(self) -> list[NestedKey]:
        local, mixer = self.local_value_network, self.mixer_network
        made = {unravel_key(key) for key in (*local.out_keys, self.tensor_keys.local_value)}
        keys = [unravel_key(key) for key in local.in_keys]
        return list(dict.fromkeys(keys + [key for key in map(unravel_key, mixer.in_keys) if key not in made]))

    @property
    def in_keys(self) -> list[NestedKey]:
        """What the loss reads, always in the same order."""
        keys, networks = self.tensor_keys, self._network_keys
        outcome = [("next", key) for key in (keys.reward, keys.done, keys.terminated)]
        extra = [("next", key) for key in networks] if self.layout == "transition" else [keys.action_mask]
        extra += [] if keys.mask is None else [keys.mask]
        return list(dict.fromkeys(unravel_key(key) for key in (keys.action, *outcome, *networks, *extra)))

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """Compute the loss, and write the squared temporal-difference error of each step into the tensordict.

        Args:
            tensordict: A batch in the layout that the loss was made for.

        Returns:
            ``"loss"``, a scalar, and with ``diagnostics`` the mean ``"value"`` and ``"target"``.

        Raises:
            KeyError: If an entry is missing.
            RuntimeError: If reward, done or terminated are not ``[*B, 1]``.
            ValueError: If another entry has the wrong shape, or an agent has no legal action.
        """
        self.warn_without_update()
        mask = self._mask(tensordict)
        value, next_value = (self._episodes if self.layout == "episode" else self._transitions)(tensordict, mask)
        if self.layout == "episode" and mask is not None:
            mask = mask[:, :-1]
        target = self._returns(tensordict, next_value, mask)

        error = without_padding((value.detach() - target).square(), mask)
        if self.layout == "episode":
            error = F.pad(error, (0, 0, 0, 1))
        tensordict.set(self.tensor_keys.priority, error.to(tensordict.device or error.device))
        losses = {"loss": masked_mean(_DISTANCES[self.loss_function](value, target, reduction="none"), mask)}
        if self.diagnostics:
            losses |= {"value": masked_mean(value.detach(), mask), "target": masked_mean(target, mask)}
        return TensorDict(losses, [])

    def _episodes(self, episodes: TensorDictBase, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Values and next values ``[B, T, 1]`` of consecutive steps ``[B, T+1]``."""
        if episodes.batch_dims != 2 or episodes.shape[1] < 2:
            raise ValueError(
                f"layout='episode' expected a tensordict of batch [B, T+1] with T >= 1, got {list(episodes.shape)}."
                " Steps that hold their own next step need layout='transition'."
            )
        seen = None if mask is None else seen_steps(mask)
        action = without_padding(self._entry(episodes, self.tensor_keys.action), mask)
        legal = self._legal(episodes, seen)
        mixed = self.mixer_network.in_keys

        inputs = self._inputs(episodes, seen)
        outputs = inputs.clone(False)
        online = self._action_values(outputs)
        chosen = value_of_action(online[:, :-1], action[:, :-1], self.action_space)
        value = self._mix(outputs.select(*mixed, strict=False)[:, :-1], chosen)
        with torch.no_grad():
            with self.target_local_value_network_params.to_module(self.local_value_network):
                target = self._action_values(inputs)[:, 1:]
            preferred = online[:, 1:] if self.double_q else target
            chosen = self._greedy_value(preferred, target, None if legal is None else legal[:, 1:])
            with self.target_mixer_network_params.to_module(self.mixer_network):
                return value, self._mix(inputs.select(*mixed, strict=False)[:, 1:], chosen)

    def _transitions(self, steps: TensorDictBase, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Values and next values ``[*B, 1]`` of steps that hold their own next step."""
        action = without_padding(self._entry(steps, self.tensor_keys.action), mask)
        after = self._entry(steps, "next")

        inputs = self._inputs(steps, mask)
        value = self._mix(inputs, value_of_action(self._action_values(inputs), action, self.action_space))
        with torch.no_grad():
            inputs = self._inputs(after, mask)
            preferred = self._action_values(inputs.clone(False)) if self.double_q else None
            with self.target_local_value_network_params.to_module(self.local_value_network):
                target = self._action_values(inputs)
            # A local network that picks actions in a way of its own goes on doing so.
            chosen = inputs.get(self.tensor_keys.local_value, None)
            if preferred is not None or chosen is None:
                legal = self._legal(after, mask)
                chosen = self._greedy_value(target if preferred is None else preferred, target, legal)
            with self.target_mixer_network_params.to_module(self.mixer_network):
                return value, self._mix(inputs, chosen)

    def _returns(self, tensordict: TensorDictBase, next_value: Tensor, mask: Tensor | None) -> Tensor:
        keys, names = self.tensor_keys, tensordict.names
        terminated = tensordict.get(("next", keys.terminated), None)
        done = tensordict.get(("next", keys.done), terminated)
        terminated = self._entry(tensordict, ("next", keys.done)) if terminated is None else terminated
        entries = [self._entry(tensordict, ("next", keys.reward)), terminated, done]
        steps = tensordict.get("steps_to_next_obs", None)
        for entry in entries:
            if entry.shape != (*tensordict.shape, 1):
                raise RuntimeError(
                    "All input tensors (value, reward and done states) must share a unique shape."
                    f" Expected reward, done and terminated to be {(*tensordict.shape, 1)}, got {tuple(entry.shape)}."
                    " A reward for each agent must be summed or averaged over the agents first."
                )
        if self.layout == "episode":
            entries = [entry[:, :-1] for entry in entries]
            steps = None if steps is None else steps[:, :-1]
        reward, terminated, done = entries
        targets: Tensor = self._value_estimator(
            without_padding(reward, mask),
            next_value,
            terminated.bool(),
            done.bool(),
            mask=mask,
            time_dim=names.index("time") if "time" in names else len(names) - 1,
            steps=steps,
        )
        return targets

    def _entry(self, tensordict: TensorDictBase, key: NestedKey) -> Any:
        entry = tensordict.get(key, None)
        if entry is None:
            found = ", ".join(sorted(map(str, tensordict.keys(True, True))))
            raise KeyError(
                f"{type(self).__name__} expected the key {key!r}, found {found}. Name your own keys with set_keys."
            )
        return entry

    def _mask(self, tensordict: TensorDictBase) -> Tensor | None:
        if self.tensor_keys.mask is None:
            return None
        mask: Tensor = self._entry(tensordict, self.tensor_keys.mask)
        mask = mask.unsqueeze(-1) if mask.shape == tensordict.shape else mask
        if mask.shape != (*tensordict.shape, 1):
            raise ValueError(f"Expected a mask of shape {(*tensordict.shape, 1)}, got {tuple(mask.shape)}.")
        return mask.bool()

    def _legal(self, tensordict: TensorDictBase, keep: Tensor | None) -> Tensor | None:
        """Which actions are legal, all of them on padding; None if nobody says."""
        head, key = self._head, self.tensor_keys.action_mask
        if head is not None and (head.action_mask_key is not None or self.layout == "transition"):
            key = head.action_mask_key
        if key is None or (legal := tensordict.get(key, None)) is None:
            if head is not None and head.action_mask_key is not None:
                raise KeyError(f"Action mask key {key} not found in {tensordict}.")
            return None
        return without_padding(legal, keep, fill=True)

    def _inputs(self, tensordict: TensorDictBase, keep: Tensor | None) -> TensorDictBase:
        """What the networks read, in a tensordict of its own, padding zeroed."""
        keys = self._network_keys
        inputs = tensordict.select(*keys, strict=False).unlock_()
        for key in keys if keep is not None else ():
            entry = inputs.get(key, None)
            if entry is not None and entry.is_floating_point():
                inputs.set(key, without_padding(entry, keep))
        return inputs

    def _action_values(self, inputs: TensorDictBase) -> Tensor:
        """Run the local network, but not the choice of an action at its end, which the loss does not need."""
        network, key = self.local_value_network, self.tensor_keys.action_value
        # A subclass of TensorDictSequential may do more than run its modules in turn: it is left to do so itself.
        chain = self._head is not None or type(network) is TensorDictSequential
        *first, last = list(network.module)[: -1 if self._head is not None else None] if chain else [network]
        for module in first:
            self._output(module, inputs, module.out_keys[0])
        return self._output(last, inputs, key)

    @staticmethod
    def _output(module: TensorDictModuleBase, inputs: TensorDictBase, key: NestedKey) -> Tensor:
        """What a module writes at a key."""
        # For each tensor it writes, a TensorDictModule looks on the disk for pandas, in all a fiftieth of an update of
        # 32 battles. One that maps tensors to a single tensor is asked directly.
        tensors = None
        if type(module) is TensorDictModule and module.out_keys == [key] and module.method is module._kwargs is None:
            tensors = [inputs.get(name, None) for name in module.in_keys]
        if tensors is None or any(tensor is None for tensor in tensors):
            return module(inputs)[key]  # type: ignore[no-any-return]
        output: Tensor = module.module(*tensors)
        inputs.set(key, output)
        return output

    def _greedy_value(self, preferred: Tensor, target: Tensor, legal: Tensor | None) -> Tensor:
        """What ``target`` thinks of the best legal action of ``preferred``."""
        var_nums = getattr(self._head, "var_nums", None)
        return value_of_action(target, greedy_action(preferred, legal, self.action_space, var_nums), self.action_space)

    def _mix(self, inputs: TensorDictBase, chosen: Tensor) -> Tensor:
        inputs.set(self.tensor_keys.local_value, chosen)
        joint = self._output(self.mixer_network, inputs, self.tensor_keys.global_value)
        # Half precision is good enough for networks, not for differences of their outputs.
        return joint.to(torch.promote_types(joint.dtype, torch.float32))

    def __repr__(self) -> str:
        """One line; the networks print themselves."""
        options = ("loss_function", "delay_value", "action_space", "double_q", "layout")
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in options)
        return f"{type(self).__name__}({shown}, value_estimator={self._value_estimator})"
