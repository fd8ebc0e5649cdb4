"""What agents see, taken apart again: who is where and how strong, in cells and points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from qmix_lightning.envs.battle.options import SmacOptions, smac_options
from qmix_lightning.envs.battle.orders import NO_OP, NORTH, WEST
from qmix_lightning.envs.battle.scenario import Scenario
from qmix_lightning.envs.battle.views import ally_features, enemy_features, move_features, observation_size
from qmix_lightning.envs.battle.world import world_of


class Sight(NamedTuple):
    """What the N agents of B battles see of each other and of M enemies; zero, False or full where it is unknown."""

    legal: Tensor  # [B, N, A] bool
    alive: Tensor  # [B, N] bool
    kind: Tensor  # [B, N] int64, index of the agent's type
    health: Tensor  # [B, N] part of its full health
    place: Tensor | None  # [B, N, 2] cells, where agents see where they are
    moves: Tensor  # [B, N, 4] bool, whether it can go north, south, east, west
    ally_seen: Tensor  # [B, N, N] bool, of living others
    ally_at: Tensor  # [B, N, N, 2] cells east and north
    ally_far: Tensor  # [B, N, N] cells between centres
    healable: Tensor  # [B, N, N] bool, whom it may heal
    enemy_seen: Tensor  # [B, N, M] bool
    enemy_at: Tensor  # [B, N, M, 2]
    enemy_far: Tensor  # [B, N, M]
    attackable: Tensor  # [B, N, M] bool, whom it may attack with a weapon that hurts
    enemy_kind: Tensor  # [B, M] int64, as known by the agent that sees it
    enemy_strength: Tensor  # [B, M] health and shield in points


class Eyes:
    """Reads observations and action masks of one map; a :class:`Sight` is what they say.

    Args:
        scenario: The map.
        options: Options of the environment; those of :class:`~qmix_lightning.envs.battle.options.SmacOptions` count.

    Attributes:
        types: The constants of the unit types by their names, each ``[K]``.
        damage: ``[K, K]``, points that an attack of one type takes from another.
        middle: Of the map, ``[2]`` cells.
        first_attack: The action that attacks enemy 0.
        observation_size: Length of an observation.
        n_actions: Number of actions.
        start: Middle of the places where the agents start, ``[2]``, None where they are random.
        heading: Cells east and north from the agents' start to the enemies', None where both are random.

    Example:
        >>> from qmix_lightning.envs.battle.env import BattleEnvironment
        >>> from qmix_lightning.envs.battle.scenario import load_scenario
        >>> start = BattleEnvironment("2m_vs_1z", spawn_jitter=0).reset()
        >>> eyes = Eyes(load_scenario("2m_vs_1z"), {})
        >>> sight = eyes.look(start["agents", "observation"], start["agents", "action_mask"])
        >>> [round(float(cells), 1) for cells in sight.ally_at[0, 0, 1]], sight.enemy_strength.tolist()
        ([6.0, 0.0], [[150.0]])
    """

    def __init__(self, scenario: Scenario, options: Mapping[str, Any]) -> None:
        chosen = {name: value for name, value in options.items() if name in SmacOptions._fields}
        self._world = world_of(scenario, smac_options(chosen, version=scenario.version))
        self.rules = self._world.rules
        types = self._world.types
        self.types = {name: torch.from_numpy(types[name].astype("float32")) for name in types.dtype.names or ()}
        hit = torch.from_numpy(self._world.damage.astype("float32"))
        pierced = (hit - self.types["armour"]).clamp_min(0.5) * (hit > 0)
        self.damage = pierced * self.types["hits"][:, None]
        names = scenario.unit_types
        self._ally_kinds = torch.tensor([names.index(unit) for unit in scenario.ally_types] or [0])
        self._enemy_kinds = torch.tensor([names.index(unit) for unit in scenario.enemy_types] or [len(names) - 1])
        self.start, self.heading = _start_and_heading(scenario)
        self._walkable = torch.from_numpy(self._world.ground > 0)
        n_agents = int(self.rules.n_agents)
        self._others = (~torch.eye(n_agents, dtype=torch.bool)).nonzero(as_tuple=True)
        self.observation_size, self.n_actions = observation_size(self._world), int(self.rules.n_actions)
        self.first_attack, self.middle = int(self.rules.first_attack), torch.tensor(self._world.ground.shape) / 2

    def look(self, observation: Tensor, action_mask: Tensor) -> Sight:
        """Take apart what is seen.

        Args:
            observation: ``[B, N, O]``.
            action_mask: ``[B, N, A]`` bool.
        """
        rules, world = self.rules, self._world
        n, m, bits, first = int(rules.n_agents), int(rules.n_enemies), int(rules.type_bits), int(rules.first_attack)
        begin = move_features(world)
        middle = begin + m * enemy_features(world)
        end = middle + (n - 1) * ally_features(world)
        enemies = torch.unflatten(observation[..., begin:middle], -1, (m, -1))
        others = torch.unflatten(observation[..., middle:end], -1, (n - 1, -1)) if n > 1 else observation[..., None, :0]
        own = observation[..., end:]
        alive = ~action_mask[..., NO_OP]
        kind = self._own_kind(own, bits)
        sight = self.types["sight_range"][kind][..., None]
        allies = observation.new_zeros(*observation.shape[:2], n, 4)
        if n > 1:
            allies[:, self._others[0], self._others[1]] = others[..., :4].flatten(1, 2)
        enemy_seen, ally_seen = enemies[..., 1] > 0, allies[..., 1] > 0
        enemy_kind = self._enemy_kind(enemies, bits)
        heals = self.types["heal_rate"][kind][..., None] > 0
        slots = action_mask[..., first:]
        hurts = self.damage[kind[..., None], enemy_kind[:, None]] > 0
        shoot = self.types["shoot_range"][kind][..., None].expand_as(enemy_seen)
        return Sight(
            legal=action_mask,
            alive=alive,
            kind=kind,
            health=own[..., 0] if rules.obs_own_health else alive.float(),
            place=self._place(own) if rules.obs_own_pos else None,
            moves=action_mask[..., NORTH : WEST + 1],
            ally_seen=ally_seen,
            ally_at=allies[..., 2:4] * sight[..., None],
            ally_far=allies[..., 1] * sight,
            healable=slots[..., :n] & heals if slots.shape[-1] >= n else torch.zeros_like(ally_seen),
            enemy_seen=enemy_seen,
            enemy_at=enemies[..., 2:4] * sight[..., None],
            enemy_far=torch.where(enemy_seen, enemies[..., 1] * sight, shoot),
            attackable=slots[..., :m] & ~heals & hurts,
            enemy_kind=enemy_kind,
            enemy_strength=self._strength(enemies, enemy_seen, enemy_kind),
        )

    def room(self, place: Tensor, way: Tensor, cells: int) -> Tensor:
        """How many of the next ``cells`` cells one can walk on from ``place`` ``[..., 2]`` in a ``way`` ``[2]``."""
        width, height = self._walkable.shape
        free, open_cells = torch.ones(place.shape[:-1], dtype=torch.bool), torch.zeros(place.shape[:-1])
        for far in range(1, cells + 1):
            x, y = (place + far * way).floor().long().unbind(-1)
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            free = free & inside & self._walkable[x.clamp(0, width - 1), y.clamp(0, height - 1)]
            open_cells = open_cells + free
        return open_cells

    def _own_kind(self, own: Tensor, bits: int) -> Tensor:
        if bits == 0:
            return self._ally_kinds[0].expand(own.shape[:2])
        last = own.shape[-1] - int(self.rules.obs_timestep_number) * (2 if self.rules.version == 1 else 1)
        return self._ally_kinds[own[..., last - bits : last].argmax(-1)]

    def _enemy_kind(self, enemies: Tensor, bits: int) -> Tensor:
        if bits == 0:
            return self._enemy_kinds[0].expand(enemies.shape[0], enemies.shape[2])
        return self._enemy_kinds[enemies[..., -bits:].amax(1).argmax(-1)]

    def _place(self, own: Tensor) -> Tensor:
        at = int(self.rules.obs_own_health) * (1 + int(self.rules.ally_shields))
        return own[..., at : at + 2] * torch.tensor(self._world.ground.shape)

    def _strength(self, enemies: Tensor, seen: Tensor, kind: Tensor) -> Tensor:
        full, shield = self.types["health"][kind], self.types["shield"][kind]
        if not self.rules.obs_all_health:
            return full + shield
        points = enemies[..., 4].amax(1) * full
        if self.rules.enemy_shields:
            points = points + enemies[..., 5].amax(1) * shield
        return torch.where(seen.any(1), points, full + shield)


def _start_and_heading(scenario: Scenario) -> tuple[Tensor | None, Tensor | None]:
    if scenario.random_teams:
        return None, None
    middles = [
        torch.tensor([squad.at for squad in squads for _ in range(squad.count)]).mean(0)
        for squads in (scenario.allies, scenario.enemies)
    ]
    return middles[0], middles[1] - middles[0]
