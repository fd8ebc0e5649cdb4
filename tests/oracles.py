"""Slow references that share no code with the package: loops over episodes, steps, agents and actions, written out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Matrix = Mapping[str, Tensor]


def td_lambda(
    reward: Sequence[float],
    next_value: Sequence[float],
    terminated: Sequence[bool],
    done: Sequence[bool],
    gamma: float,
    lmbda: float,
) -> list[float]:
    """TD(λ) of one window by explicit recursion."""

    def target(t: int) -> float:
        bootstrap = 0.0 if terminated[t] else gamma * next_value[t]
        if t == len(reward) - 1 or done[t]:
            return reward[t] + bootstrap
        return reward[t] + (1 - lmbda) * bootstrap + lmbda * gamma * target(t + 1)

    return [target(t) for t in range(len(reward))]


def n_step_mixture(reward: Sequence[float], next_value: Sequence[float], gamma: float, lmbda: float) -> list[float]:
    """TD(λ) of one unbroken window by its definition: (1-λ) Σ λ^(n-1) G^(n), the rest of the weight on the longest."""
    steps = len(reward)

    def n_step(t: int, n: int) -> float:
        return sum(gamma**k * reward[t + k] for k in range(n)) + gamma**n * next_value[t + n - 1]

    targets = []
    for t in range(steps):
        longest = steps - t
        mixed = sum((1 - lmbda) * lmbda ** (n - 1) * n_step(t, n) for n in range(1, longest))
        targets.append(mixed + lmbda ** (longest - 1) * n_step(t, longest))
    return targets


def gru_agent(p: Matrix, observations: Tensor) -> list[Tensor]:
    """Action values of one agent over one episode ``[T+1, O]``: Linear, ReLU, GRU cell, Linear; memory starts at 0."""
    memory = torch.zeros(p["gru.weight_hh_l0"].shape[1], dtype=observations.dtype)
    values = []
    for observation in observations:
        x = torch.relu(p["encode.weight"] @ observation + p["encode.bias"])
        from_x = (p["gru.weight_ih_l0"] @ x + p["gru.bias_ih_l0"]).chunk(3)
        from_memory = (p["gru.weight_hh_l0"] @ memory + p["gru.bias_hh_l0"]).chunk(3)
        reset = torch.sigmoid(from_x[0] + from_memory[0])
        update = torch.sigmoid(from_x[1] + from_memory[1])
        candidate = torch.tanh(from_x[2] + reset * from_memory[2])
        memory = (1 - update) * candidate + update * memory
        values.append(p["decode.weight"] @ memory + p["decode.bias"])
    return values


def qmix(p: Matrix, values: Sequence[Tensor], state: Tensor) -> Tensor:
    """The joint value of one step, with two-layer hypernetworks."""

    def two_layers(name: str) -> Tensor:
        hidden = torch.relu(p[f"{name}.0.weight"] @ state + p[f"{name}.0.bias"])
        return p[f"{name}.2.weight"] @ hidden + p[f"{name}.2.bias"]

    width = len(p["hyper_b_1.bias"])
    w_1, w_final, b_1 = two_layers("hyper_w_1"), two_layers("hyper_w_final"), p["hyper_b_1.weight"] @ state
    joint = two_layers("V")[0]
    for e in range(width):
        x = b_1[e] + p["hyper_b_1.bias"][e]
        for agent, value in enumerate(values):
            x = x + value * w_1[agent * width + e].abs()
        joint = joint + (x if x > 0 else torch.exp(x) - 1) * w_final[e].abs()
    return joint


def pymarl_loss(
    agent: Matrix, mixer: Matrix, target_agent: Matrix, target_mixer: Matrix, batch: Mapping[str, Tensor], gamma: float
) -> tuple[Tensor, list[list[float]]]:
    """PyMARL's QMIX loss: double Q, one step, mean over the steps that were played.

    ``batch`` holds observation [B,T+1,N,O], state [B,T+1,S], action [B,T+1,N], legal [B,T+1,N,A] and, of each step,
    reward, terminated, played [B,T+1].
    """
    total, count = torch.zeros((), dtype=batch["reward"].dtype), 0
    errors: list[list[float]] = []
    for b in range(len(batch["reward"])):
        agents = range(batch["observation"].shape[2])
        online = [gru_agent(agent, batch["observation"][b, :, i]) for i in agents]
        target = [gru_agent(target_agent, batch["observation"][b, :, i]) for i in agents]
        errors.append([])
        for t in range(batch["reward"].shape[1] - 1):
            if not batch["played"][b, t]:
                errors[b].append(0.0)
                continue
            joint = qmix(mixer, [online[i][t][batch["action"][b, t, i]] for i in agents], batch["state"][b, t])
            y = batch["reward"][b, t].clone()
            if not batch["terminated"][b, t]:
                chosen = []
                for i in agents:
                    legal = [a for a, is_legal in enumerate(batch["legal"][b, t + 1, i]) if is_legal]
                    best = max(legal, key=lambda a, values=online[i][t + 1]: float(values[a].detach()))
                    chosen.append(target[i][t + 1][best])
                y = y + gamma * qmix(target_mixer, chosen, batch["state"][b, t + 1]).detach()
            total, count = total + (joint - y) ** 2, count + 1
            errors[b].append(float((joint - y).detach() ** 2))
        errors[b].append(0.0)
    return total / count, errors


def rmsprop_step(
    parameters: Sequence[Tensor], gradients: Sequence[Tensor], *, lr: float, alpha: float, eps: float, clip: float
) -> list[Tensor]:
    """The first step of RMSprop, after scaling the gradients to a common norm of at most ``clip``."""
    norm = math.sqrt(sum(float((g**2).sum()) for g in gradients))
    scale = min(1.0, clip / (norm + 1e-6))
    return [
        p - lr * (scale * g) / (torch.sqrt((1 - alpha) * (scale * g) ** 2) + eps)
        for p, g in zip(parameters, gradients, strict=True)
    ]
