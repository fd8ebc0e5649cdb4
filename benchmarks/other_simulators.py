"""Other simulators of SMAC's battles, each in a process of its own Python, measured in turns with ours.

Their packages are never installed beside ours: name the interpreter of an environment that has them, e.g. one made by
``python -m venv peers && peers/bin/pip install jaxmarl==0.2.0`` or, for SMAClite, by pip from its repository.
"""

from __future__ import annotations

import json
import subprocess
import sys
from types import TracebackType

SMAX = """
import json, sys, time
import jax, jax.numpy as jnp
from jaxmarl import make
from jaxmarl.environments.smax import map_name_to_scenario

name, battles, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
env = make("HeuristicEnemySMAX", scenario=map_name_to_scenario(name))

def legal(key, state):
    masks = jax.vmap(env.get_avail_actions)(state)
    keys = jax.random.split(key, len(env.agents))
    return {a: jax.random.categorical(k, jnp.where(masks[a] > 0, 0.0, -1e9)) for a, k in zip(env.agents, keys)}

def step(carry, _):
    state, key = carry
    key, acting, stepping = jax.random.split(key, 3)
    seen, state, reward, done, info = jax.vmap(env.step)(
        jax.random.split(stepping, battles), state, legal(acting, state))
    world = seen["world_state"]
    return (state, key), (reward[env.agents[0]].sum(), world.sum(), sum(seen[a].sum() for a in env.agents))

run = jax.jit(lambda carry: jax.lax.scan(step, carry, None, 64))
key = jax.random.PRNGKey(0)
_, state = jax.vmap(env.reset)(jax.random.split(key, battles))
carry = (state, key)
for _ in range(2):  # the second time other types come in
    carry, seen = run(carry)
    jax.block_until_ready(seen)

def block():
    global carry
    spent, steps = 0.0, 0
    while spent < seconds:
        start = time.process_time()
        carry, seen = run(carry)
        jax.block_until_ready(seen)
        spent += time.process_time() - start
        steps += 64 * battles
    return spent / steps
"""
"""JaxMARL's SMAX: random legal actions, drawn inside the compiled loop, observations and world state used."""

SMACLITE = """
import json, sys, time
import gymnasium, numpy as np
import smaclite

name, battles, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
env = gymnasium.make(f"smaclite/{name}-v0", use_cpp_rvo2=False)
random = np.random.default_rng(0)
env.reset(seed=0)
game = env.unwrapped

def block():
    spent, steps = 0.0, 0
    while spent < seconds:
        masks = game.get_avail_actions()
        actions = [int(random.choice(np.flatnonzero(mask))) for mask in masks]
        start = time.process_time()
        _, _, done, truncated, _ = env.step(actions)
        game.get_state()
        if done or truncated:
            env.reset()
        spent += time.process_time() - start
        steps += 1
    return spent / steps
"""
"""SMAClite, one battle (it knows no batches), random legal actions drawn outside the timed part, state computed."""

_LOOP = """
print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    print(json.dumps(block()), flush=True)
"""


class OtherSimulator:
    """Another simulator, waiting in its process to be measured.

    Args:
        python: Interpreter of the environment that it is installed in.
        code: :data:`SMAX` or :data:`SMACLITE`.
        map_name: The map, by its name there.
        battles: How many are played side by side.
        block: CPU-seconds that one measurement lasts at least.

    Raises:
        RuntimeError: If it could not be started, with the last line that it said.
    """

    def __init__(self, python: str, code: str, map_name: str, battles: int, block: float) -> None:
        arguments = [python, "-c", code + _LOOP, map_name, str(battles), str(block)]
        self._process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._answer()

    def __enter__(self) -> OtherSimulator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()

    def __call__(self) -> float:
        """CPU-seconds of an environment step, over one block."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        for line in self._process.stdout:
            try:
                return str(json.loads(line))
            except json.JSONDecodeError:  # what a package says when it is imported
                print(line, end="", file=sys.stderr)
        said = self._process.stderr.read().strip().splitlines()
        raise RuntimeError(f"The other simulator ended: {said[-1] if said else 'it said nothing'}.")
