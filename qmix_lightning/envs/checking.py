"""Whether an environment keeps the contract of :class:`qmix_lightning.envs.base.AbstractEnvironment`."""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from typing import Any

import torch
from tensordict import TensorDict
from torch import Generator, Tensor

from qmix_lightning.envs.base import AbstractEnvironment
from qmix_lightning.spec import ACTION, ACTION_MASK, MASK, OBSERVATION, STATE, TaskSpec

SIGHT = (OBSERVATION, ACTION_MASK, STATE)

Layout = dict[str | tuple[str, ...], tuple[tuple[int, ...], tuple[torch.dtype, ...]]]


def check_env(env: AbstractEnvironment, *, steps: int = 200, seed: int = 0, deterministic: bool = True) -> None:
    """Play random legal actions and test every clause of the environments' contract.

    An environment that can be rewound must, and one whose views hold a snapshot must observe its episodes again.

    Args:
        env: The environment, which is seeded, restarted and left in the middle of an episode, not closed.
        steps: Number of steps played, once or a few times; more than ``spec.episode_limit`` tests the limit too.
        seed: Of the environment and of the actions.
        deterministic: Whether the same seed must play the same episodes.

    Raises:
        AssertionError: If a clause is broken, saying which, what was expected and what came.

    Example:
        >>> from qmix_lightning.envs.matrix import TwoStepGame
        >>> check_env(TwoStepGame(num_envs=3))
    """
    _check_declarations(env)
    played = _play(env, steps, seed)
    if deterministic:
        _check_same(played, _play(env, steps, seed), "same seed, same episodes")
        _check_stages(env, min(steps, 2 * env.spec.episode_limit), seed)
    nobody = torch.zeros(env.num_envs, dtype=torch.bool, device=played[-1][STATE].device)
    _check_rewinding(env, nobody, min(steps, 2 * env.spec.episode_limit), seed)
    if env.snapshot_keys:
        _check_snapshot(env, nobody, seed)
    _check_refusals(env)


def _expect(kept: bool, clause: str, expected: object, came: object) -> None:
    if not kept:
        raise AssertionError(f"Broken contract ({clause}): expected {expected}, got {came}.")


def _check_declarations(env: AbstractEnvironment) -> None:
    spec, num_envs = (getattr(env, name, None) for name in ("spec", "num_envs"))
    _expect(isinstance(spec, TaskSpec), "spec", "a TaskSpec", repr(spec))
    _expect(isinstance(num_envs, int) and num_envs >= 1, "num_envs", "an integer of at least 1", repr(num_envs))
    for name in ("info_keys", "snapshot_keys"):
        keys = getattr(env, name, None)
        strings = isinstance(keys, tuple) and all(isinstance(key, str) for key in keys)
        _expect(strings, name, "a tuple of names", repr(keys))


def _play(env: AbstractEnvironment, steps: int, seed: int) -> list[TensorDict]:
    """Play, check each call, and return copies of all that came back."""
    env.seed(seed)
    view = env.reset()
    _check_view(env, view, "reset()")
    return _play_on(env, view.clone(), steps, Generator().manual_seed(seed))


def _play_on(env: AbstractEnvironment, view: TensorDict, steps: int, generator: Generator) -> list[TensorDict]:
    played = [view]
    length = torch.zeros(env.num_envs, dtype=torch.int64)
    for _ in range(steps):
        outcome = env.step(_random_legal(played[-1][ACTION_MASK], generator))
        _check_view(env, outcome, "step()")
        _check_outcome(env, outcome)
        woken = _resting(played[-1]) & ~_resting(outcome)
        _expect(
            not (env.spec.no_op_is_final and woken.any()),
            "no_op_is_final",
            "nothing but action 0 for who could do nothing else before",
            f"more for {_where(woken)}",
        )
        length += 1
        done = outcome["done"].flatten().cpu().clone()
        late = (length >= env.spec.episode_limit) & ~done
        _expect(
            not late.any(), "limit", f"done after {env.spec.episode_limit} steps", f"episode {_first(late)} going on"
        )
        # One more restarts in mid-episode; often none does, which must change nothing either.
        chosen = torch.rand(env.num_envs, generator=generator) < 1 / (2 * env.num_envs)
        which = done | chosen
        played.append(outcome.clone())
        played.append(_reset_some(env, played[-1], which))
        length[which] = 0
    return played


def _reset_some(env: AbstractEnvironment, before: TensorDict, which: Tensor) -> TensorDict:
    after = env.reset(which.to(before[STATE].device)).clone()
    _check_view(env, after, "reset(which)")
    for key in SIGHT:
        changed = (before[key] != after[key]).flatten(1).any(1).cpu() & ~which
        _expect(
            not changed.any(),
            "reset(which) leaves the others as they are",
            f"the same {key!r} as before in episode {_first(changed)}",
            "another one",
        )
    return after


def _check_view(env: AbstractEnvironment, view: TensorDict, call: str) -> None:
    spec, batch = env.spec, env.num_envs
    _expect(tuple(view.batch_size) == (batch,), f"batch size of {call}", [batch], list(view.batch_size))
    layout: Layout = {
        OBSERVATION: ((spec.n_agents, spec.observation_size), (torch.float32,)),
        ACTION_MASK: ((spec.n_agents, spec.n_actions), (torch.bool,)),
        STATE: ((spec.state_size,), (torch.float32,)),
    }
    _check_entries(view, layout, batch, call)
    for key in env.snapshot_keys:
        entry = view.get(key, None)
        _expect(isinstance(entry, Tensor), f"{key!r} of {call}", "a tensor", "none")
    stuck = ~view[ACTION_MASK].any(-1)
    _expect(not stuck.any(), f"legal actions of {call}", "at least one for each agent", f"none for {_where(stuck)}")


def _check_outcome(env: AbstractEnvironment, outcome: TensorDict) -> None:
    flag = ((1,), (torch.bool,))
    layout: Layout = {"reward": ((1,), (torch.float32,)), "done": flag, "terminated": flag}
    layout |= {("info", name): ((1,), (torch.float32, torch.bool)) for name in env.info_keys}
    _check_entries(outcome, layout, env.num_envs, "step()")
    info = outcome.get("info", None)
    came = () if info is None else tuple(info.keys())
    _expect(set(came) == set(env.info_keys), "info_keys", sorted(env.info_keys), sorted(came))
    undone = (outcome["terminated"] & ~outcome["done"]).flatten()
    _expect(
        not undone.any(),
        "terminated",
        "done wherever terminated",
        f"terminated but not done in episode {_first(undone)}",
    )


def _check_entries(entries: TensorDict, layout: Layout, batch: int, call: str) -> None:
    for key, (shape, dtypes) in layout.items():
        entry = entries.get(key, None)
        clause = f"{key!r} of {call}"
        _expect(isinstance(entry, Tensor), clause, "a tensor", "none")
        _expect(tuple(entry.shape) == (batch, *shape), clause, f"shape {[batch, *shape]}", list(entry.shape))
        _expect(entry.dtype in dtypes, clause, " or ".join(map(str, dtypes)), entry.dtype)
        _expect(bool(entry.isfinite().all()), clause, "finite numbers", "infinity or no number")
        _expect(not entry.requires_grad, clause, "no gradient", "a tensor that requires one")


def _check_same(first: Sequence[TensorDict], second: Sequence[TensorDict], clause: str) -> None:
    for number, (one, two) in enumerate(zip(first, second, strict=True)):
        for key in one.keys(True, True):
            same = torch.equal(one[key], two[key])
            _expect(same, clause, f"equal {key!r} in call {number} of two runs", "different ones")


def _check_stages(env: AbstractEnvironment, steps: int, seed: int) -> None:
    """Play by calls and then by stages, if there are any."""
    action = torch.zeros(env.num_envs, env.spec.n_agents, dtype=torch.int64)
    which = torch.zeros(env.num_envs, dtype=torch.bool)
    if (stages := env.stages(action, which)) is None:
        return
    # Imported when asked for: most worlds have no compiled loops, and need no compiler.
    from qmix_lightning.functional.stages import run

    def advance() -> None:
        with stages.around():
            came = run(stages.advance)
        _expect(came == -1, "stages", "-1 of a legal step", came)

    def restart() -> None:
        with stages.around():
            run(stages.restart)

    by_calls = _play_in_place(env, steps, seed, action, which, lambda: env.step(action), lambda: env.reset(which))
    by_stages = _play_in_place(env, steps, seed, action, which, advance, restart)
    _check_same(by_calls, by_stages, "stages play what calls do, in the tensors that these return")
    action.fill_(env.spec.n_actions)
    _expect(run(stages.advance) != -1, "stages", "a number other than -1 of an illegal step", -1)


def _play_in_place(
    env: AbstractEnvironment, steps: int, seed: int, action: Tensor, which: Tensor, advance: Any, restart: Any
) -> list[TensorDict]:
    env.seed(seed)
    generator = Generator().manual_seed(seed)
    action.copy_(_random_legal(env.reset()[ACTION_MASK], generator))
    outcome = env.step(action)
    played = [outcome.clone()]
    for _ in range(steps):
        which.copy_(outcome["done"].flatten())
        restart()
        played.append(outcome.clone())
        action.copy_(_random_legal(outcome[ACTION_MASK], generator))
        advance()
        played.append(outcome.clone())
    return played


def _check_rewinding(env: AbstractEnvironment, nobody: Tensor, steps: int, seed: int) -> None:
    """Save in mid-episode, play on, start something else, load, and play on once more."""
    state = env.state_dict()
    if state is None:
        return
    played = _play_on(env, env.reset(nobody).clone(), steps, Generator().manual_seed(seed))
    env.seed(seed + 1)
    env.reset()
    env.load_state_dict(_through_a_file(state))
    again = _play_on(env, env.reset(nobody).clone(), steps, Generator().manual_seed(seed))
    _check_same(played, again, "load_state_dict rewinds")


def _through_a_file(state: dict[str, Any]) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    try:
        return torch.load(file, weights_only=True)
    except pickle.UnpicklingError as error:
        _expect(False, "state_dict", "numbers, strings, tensors, lists and dictionaries", str(error))


def _check_snapshot(env: AbstractEnvironment, nobody: Tensor, seed: int) -> None:
    """Record an episode of every battle, and see whether its snapshot tells what was seen."""
    seen = _record(env, Generator().manual_seed(seed))
    before = env.reset(nobody).clone()
    again = env.observe(seen.exclude(*SIGHT))
    _check_same([before], [env.reset(nobody)], "observe leaves the episodes under way as they are")
    for key in SIGHT:
        wrong = (seen[key] != again[key]).flatten(2).any(-1)
        episode, step = wrong.nonzero()[0].tolist() if wrong.any() else (0, 0)
        came = f"another in step {step} of episode {episode}"
        _expect(not wrong.any(), "observe sees what was seen", f"{key!r} as recorded", came)


def _record(env: AbstractEnvironment, generator: Generator) -> TensorDict:
    """The first episode of every battle, ``[B, limit + 2]``: the last step of each is padding."""
    shown = env.reset().clone()
    mask = shown[ACTION_MASK]
    seen = going = torch.ones(env.num_envs, dtype=torch.bool, device=mask.device)
    steps = []
    for _ in range(env.spec.episode_limit + 2):
        action = _random_legal(mask, generator)
        step = shown.select(*SIGHT, *env.snapshot_keys).set(ACTION, action.clone()).set(MASK, going[:, None].clone())
        step[~seen] = 0
        step[ACTION][~going] = 0
        step[ACTION_MASK][~seen, :, 0] = True
        steps.append(step)
        shown = env.step(action).clone()
        done = shown["done"].flatten()
        mask = env.reset(done)[ACTION_MASK].clone()
        seen, going = going, going & ~done
    return torch.stack(steps, 1)


def _check_refusals(env: AbstractEnvironment) -> None:
    mask = env.reset()[ACTION_MASK].clone()
    legal = mask.to(torch.uint8).argmax(-1)
    last = (env.num_envs - 1, env.spec.n_agents - 1)
    illegal = [(*last, -1), (*last, env.spec.n_actions), *(~mask).nonzero()[:1].tolist()]
    for episode, agent, wrong in illegal:
        action = legal.clone()
        action[episode, agent] = wrong
        named = f"a ValueError that names episode {episode}, agent {agent} and action {wrong}"
        try:
            env.step(action)
            env.reset()  # A world that does not wait for its steps raises here.
        except ValueError as error:
            told = all(str(number) in str(error) for number in (episode, agent, wrong))
            _expect(told, "illegal action", named, repr(str(error)))
        else:
            _expect(False, "illegal action", named, "no error")
    env.reset()


def _random_legal(mask: Tensor, generator: Generator) -> Tensor:
    keys = torch.rand(mask.shape, generator=generator).to(mask.device)
    return keys.masked_fill(~mask, -1.0).argmax(-1)


def _resting(view: TensorDict) -> Tensor:
    """Who can do nothing but action 0, ``[B, N]``."""
    mask: Tensor = view[ACTION_MASK]
    return ~mask[..., 1:].any(-1)


def _first(flags: Tensor) -> int:
    return int(flags.to(torch.uint8).argmax())


def _where(flags: Tensor) -> str:
    episode, agent = flags.nonzero()[0].tolist() if flags.any() else (0, 0)
    return f"agent {agent} of episode {episode}"
