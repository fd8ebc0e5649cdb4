"""What SMAC lets its users choose of what agents see, may do and earn."""

from __future__ import annotations

from typing import Any, NamedTuple


class SmacOptions(NamedTuple):
    """The arguments of ``StarCraft2Env`` that change what a learner sees, by their names there.

    Those from ``obs_own_pos`` on are SMACv2's. A named tuple of plain numbers, because compiled code reads it.

    Args:
        obs_all_health: Agents see the health and shields of others; implies ``obs_own_health``.
        obs_own_health: Agents see their own health and shields.
        obs_last_action: Agents see what each ally did last.
        obs_pathing_grid: Agents see which of eight places around them can be walked on.
        obs_terrain_height: Agents see the height of the ground there and below them.
        obs_instead_of_state: The state is all observations in a row.
        obs_timestep_number: Agents see how far the battle has got.
        state_last_action: The state holds what each agent did last.
        state_timestep_number: The state holds how far the battle has got.
        reward_sparse: Nothing but 1 for a victory and -1 for a defeat, scaled like everything.
        reward_only_positive: Only what happens to the enemies counts.
        reward_death_value: For the death of an enemy, and taken for that of an agent.
        reward_win: For a victory.
        reward_defeat: For a defeat.
        reward_negative_scale: How much the agents' losses count against the enemies'.
        reward_scale: Scale rewards so that a flawless victory brings ``reward_scale_rate``.
        reward_scale_rate: See there.
        move_amount: Cells between a unit and the point that a move order sends it to.
        step_mul: Game loops in an environment step.
        obs_own_pos: Agents see where they are on the map.
        use_unit_ranges: Units see and may attack as far as their type does, not 9 and 6 cells.
        min_attack_range: Cells from which agents may choose a target at least, under ``use_unit_ranges``.
        conic_fov: Agents see and attack only what lies in a cone before them, which they turn by actions of its own.
        num_fov_actions: Directions into which that cone can be turned.
        prob_obs_enemy: Chance of each agent to learn of an enemy that another one was the first to see.
        action_mask: Only enemies in range may be attacked; without it any living one, in vain beyond the range.
        fully_observable: Agents see beyond their range.
    """

    obs_all_health: bool = True
    obs_own_health: bool = True
    obs_last_action: bool = False
    obs_pathing_grid: bool = False
    obs_terrain_height: bool = False
    obs_instead_of_state: bool = False
    obs_timestep_number: bool = False
    state_last_action: bool = True
    state_timestep_number: bool = False
    reward_sparse: bool = False
    reward_only_positive: bool = True
    reward_death_value: float = 10.0
    reward_win: float = 200.0
    reward_defeat: float = 0.0
    reward_negative_scale: float = 0.5
    reward_scale: bool = True
    reward_scale_rate: float = 20.0
    move_amount: float = 2.0
    step_mul: int = 8
    obs_own_pos: bool = False
    use_unit_ranges: bool = False
    min_attack_range: float = 2.0
    conic_fov: bool = False
    num_fov_actions: int = 12
    prob_obs_enemy: float = 1.0
    action_mask: bool = True
    fully_observable: bool = False


_LEAST = {"move_amount": 0.0, "step_mul": 1, "num_fov_actions": 2, "reward_scale_rate": 0.0, "min_attack_range": 0.0}
_SMACV2 = SmacOptions._fields[SmacOptions._fields.index("obs_own_pos") :]


def smac_options(given: dict[str, Any], *, version: int) -> SmacOptions:
    """Options as given, on top of SMAC's defaults or of those in SMACv2's configurations.

    Args:
        given: Options by name.
        version: 1 for SMAC's maps, 2 for SMACv2's scenarios.

    Raises:
        ValueError: If a value is of the wrong type or out of range, or an option has no meaning in this version.

    Example:
        >>> smac_options({"reward_win": 100}, version=1).reward_win
        100.0
    """
    if version == 1 and (strange := [name for name in given if name in _SMACV2]):
        raise ValueError(f"{', '.join(strange)} are options of SMACv2's scenarios, such as 'battle/terran_5_vs_5'.")
    options: dict[str, Any] = {} if version == 1 else {"obs_own_pos": True, "use_unit_ranges": True}
    for name, value in given.items():
        kind = type(SmacOptions._field_defaults[name])
        fits = isinstance(value, bool) if kind is bool else isinstance(value, int | float) and value == kind(value)
        if not fits or (kind is not bool and isinstance(value, bool)):
            raise ValueError(f"Expected {name} to be of type {kind.__name__}, got {value!r}.")
        if value < _LEAST.get(name, value):
            raise ValueError(f"Expected {name} to be at least {_LEAST[name]}, got {value!r}.")
        options[name] = kind(value)
    if not 0 <= options.get("prob_obs_enemy", 1.0) <= 1:
        raise ValueError(f"Expected prob_obs_enemy to be a chance from 0 to 1, got {options['prob_obs_enemy']}.")
    if options.get("obs_all_health", True):
        options["obs_own_health"] = True
    return SmacOptions(**options)
