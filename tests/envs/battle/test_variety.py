import pytest
import torch

from qmix_lightning.envs.battle.options import SmacOptions
from qmix_lightning.envs.battle.scenario import load_scenario, map_names
from qmix_lightning.envs.battle.world import plain_soldiers, world_of
from qmix_lightning.envs.registry import make

PLAIN = {"3m", "8m", "25m", "5m_vs_6m", "8m_vs_9m", "10m_vs_11m", "27m_vs_30m"}


def random_legal(mask, generator):
    return torch.multinomial(mask.flatten(0, 1).float(), 1, generator=generator).view(mask.shape[:2])


def test_on_smacs_maps_only_marines_among_themselves_are_plain():
    assert {name for name in map_names() if plain_soldiers(load_scenario(name))} == PLAIN
    for name in ("3m", "2s3z"):
        assert (world_of(load_scenario(name), SmacOptions()).variety is None) == (name in PLAIN)


@pytest.mark.parametrize("map_name", ["3m", "5m_vs_6m", "25m"])
@pytest.mark.parametrize("options", [{}, {"physics": "random", "obs_last_action": True}])
def test_plain_battles_go_as_by_the_code_for_all_units(map_name, options):
    ours, theirs = (make(f"battle/{map_name}", num_envs=4, seed=3, **options) for _ in range(2))
    theirs._arena._shared_world = theirs._arena._shared_world._replace(variety=1)
    generator, view = torch.Generator().manual_seed(0), ours.reset()
    theirs.reset()
    for _ in range(70):
        action = random_legal(view["agents", "action_mask"], generator)
        view, other = ours.step(action), theirs.step(action)
        assert all(
            (one == two).all() for one, two in zip(view.values(True, True), other.values(True, True), strict=True)
        )
        assert ours._battles.tobytes() == theirs._battles.tobytes()
        assert ours._clocks.tobytes() == theirs._clocks.tobytes()
        over = view["done"].flatten().clone()
        view = ours.reset(over)
        theirs.reset(over)
