"""The page on the simulator: its example runs, and its tables say what the data files say."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest

from qmix_lightning.envs.battle.env import BattleEnvironment
from qmix_lightning.envs.battle.options import SmacOptions
from qmix_lightning.envs.battle.physics import Physics
from qmix_lightning.envs.battle.scenario import map_names
from qmix_lightning.envs.battle.scripted.registry import SCRIPTS
from qmix_lightning.envs.battle.unit_types import load_unit
from tests.training import ROOT

TEXT = (ROOT / "docs/environments/battle.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line.startswith("|")]


def rows(heading):
    """The lines below the heading of a table."""
    start = ROWS.index(heading) + 2
    wide = len(heading)
    found = []
    for row in ROWS[start:]:
        if len(row) != wide or set("".join(row)) == {"-"}:
            break
        found.append(row)
    return found


def test_its_example_runs(capsys):
    (block,) = BLOCKS
    exec(compile(block, "battle.md", "exec"), {"__name__": "__page__"})
    assert "tensor(" in capsys.readouterr().out


def test_the_table_of_maps_is_that_of_their_specs():
    maps = rows(["map", "agents", "enemies", "ground", "observation", "state", "actions", "limit"])[: len(map_names())]
    assert [row[0] for row in maps] == map_names()
    for name, agents, enemies, _, *sizes in maps:
        spec = BattleEnvironment(name).spec
        assert [int(size) for size in sizes] == [
            spec.observation_size, spec.state_size, spec.n_actions, spec.episode_limit,
        ]  # fmt: skip
        assert sum(map(int, re.findall(r"\d+", agents))) == spec.n_agents
        assert sum(map(int, re.findall(r"\d+", enemies))) == BattleEnvironment(name).world.rules.n_enemies


def test_the_table_of_units_is_that_of_their_files():
    heading = next(row for row in ROWS if row[0] == "unit")
    for name, health, shield, armour, speed, bodies, damage, reach, period, wind_up, _ in rows(heading)[:10]:
        unit = load_unit(name.replace(" ", "_"))
        assert [float(n or 0) for n in (health, shield, armour, speed)] == [
            unit.health, unit.shield, unit.armour, unit.speed,
        ]  # fmt: skip
        assert [float(n) for n in re.findall(r"[\d.]+", bodies)] == [
            unit.radius, unit.separation_radius, unit.inner_radius,
        ]  # fmt: skip
        if unit.weapon:
            weapon = unit.weapon
            assert float(damage.split()[0]) == weapon.damage
            assert [float(n) for n in (reach, period, wind_up)] == [weapon.range, weapon.period, weapon.wind_up]


@pytest.mark.parametrize("name", [*SmacOptions._fields, *(field.name for field in fields(Physics))])
def test_every_option_has_a_row_with_its_default(name):
    (row,) = [row for row in ROWS if row[0] == f"`{name}`"]
    default = SmacOptions._field_defaults[name] if name in SmacOptions._fields else getattr(Physics(), name)
    assert row[1].strip("`") == (f"{default:g}" if type(default) in (int, float) else str(default).lower())


def test_every_map_and_team_has_a_yardstick():
    table = rows(["map", *SCRIPTS])
    assert sorted(row[0] for row in table) == sorted(map_names())
