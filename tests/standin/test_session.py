"""The game's protocol, request by request, as SMAC uses it."""

import numpy as np
import pytest
from google.protobuf import json_format

from tests.standin.script import Script

pytest.importorskip("s2clientprotocol")

from qmix_lightning.envs.battle.scenario import load_scenario
from tests.standin.numbers import ATTACK, COPIES, EMPTY_MAP, FIRST_COPY, HEAL, MOVE, STOP
from tests.standin.session import Session, api

LAUNCHED, INIT_GAME, IN_GAME, ENDED = api.launched, api.init_game, api.in_game, api.ended


def ask(session, number=7, /, **request):
    message = json_format.ParseDict(request, api.Request(id=number))
    return api.Response.FromString(session.answer(message.SerializeToString()))


def game(map_name="3m", *, seed=1, race="Terran", **script):
    session = Session(Script(**script))
    ask(session, create_game={"local_map": {"map_path": f"SMAC_Maps/{map_name}.SC2Map"}, "random_seed": seed})
    ask(session, join_game={"race": race})
    return session


def look(session):
    return list(ask(session, observation={}).observation.observation.raw_data.units)


def step(session, count):
    return ask(session, step={"count": count})


def kill(session, units):
    return ask(session, debug={"debug": [{"kill_unit": {"tag": [unit.tag for unit in units]}}]})


def order(session, unit, ability, **target):
    command = {"ability_id": ability, "unit_tags": [unit.tag], **target}
    return ask(session, action={"actions": [{"action_raw": {"unit_command": command}}]})


def test_a_session_is_launched_created_joined_and_left():
    session = Session(Script())
    assert ask(session, ping={}).status == LAUNCHED
    assert ask(session, ping={}).ping.base_build == 75689
    response = ask(session, 3, create_game={"local_map": {"map_path": r"SMAC_Maps\3m.SC2Map"}})
    assert (response.id, response.status) == (3, INIT_GAME)
    assert ask(session, join_game={}).status == IN_GAME
    assert not session.over
    ask(session, quit={})
    assert session.over


def test_an_unknown_map_is_an_error_that_names_it():
    session = Session(Script())
    response = ask(session, create_game={"local_map": {"map_path": "SMAC_Maps/3n.SC2Map"}})
    assert "'3n'" in response.error[0]
    assert not response.HasField("create_game")


@pytest.mark.parametrize("bits", [1, 8])
def test_the_ground_is_where_smac_looks_for_it(bits):
    info = ask(game("3m", pathing_bits=bits), game_info={}).game_info.start_raw
    size = (info.map_size.x, info.map_size.y)
    assert (size, info.playable_area.p1.x, info.pathing_grid.bits_per_pixel) == ((32, 32), 32, bits)
    data = np.frombuffer(info.pathing_grid.data, np.uint8)
    if bits == 1:
        grid = np.unpackbits(data.reshape(32, 4), axis=1).T.astype(bool)
    else:
        grid = ~np.flip(data.reshape(32, 32).astype(bool).T, axis=1)
    assert (grid == np.array(load_scenario("3m").walkable).T).all()
    assert len(info.terrain_height.data) == 32 * 32


def test_agents_are_shown_backwards_and_enemies_as_they_are_numbered():
    units = look(game("5m_vs_6m"))
    assert [unit.owner for unit in units] == [1] * 5 + [2] * 6
    assert [unit.tag - min(u.tag for u in units) for unit in units] == [4, 3, 2, 1, 0, 5, 6, 7, 8, 9, 10]
    assert {unit.unit_type for unit in units} == {1970, 48}
    assert {(unit.health, unit.health_max, unit.shield_max) for unit in units} == {(45, 45, 0)}


def test_orders_are_followed():
    session = game()
    agent = max((unit for unit in look(session) if unit.owner == 1), key=lambda unit: unit.pos.y)  # nobody in its way

    def now():
        return next(unit.pos.y for unit in look(session) if unit.tag == agent.tag)

    order(session, agent, MOVE, target_world_space_pos={"x": agent.pos.x, "y": agent.pos.y + 2})
    step(session, 8)
    there = now()
    assert there == pytest.approx(agent.pos.y + 8 * 2.25 / 16)
    order(session, agent, STOP)
    step(session, 8)
    assert now() == there


def test_a_move_to_elsewhere_is_an_error():
    session = game()
    response = order(session, look(session)[0], MOVE, target_world_space_pos={"x": 1, "y": 2})
    assert "Expected a move to" in response.error[0]


def test_healing_an_enemy_and_other_abilities_are_errors():
    session = game()
    agent, enemy = look(session)[0], look(session)[-1]
    assert "healing of agents" in order(session, agent, HEAL, target_unit_tag=enemy.tag).error[0]
    assert "got 5" in order(session, agent, 5).error[0]
    assert not order(session, agent, ATTACK, target_unit_tag=enemy.tag).error


def test_the_dead_are_not_shown_and_their_orders_are_not_heard():
    session = game()
    first, *others = look(session)
    kill(session, [first])
    assert [unit.tag for unit in look(session)] == [unit.tag for unit in others]
    assert not order(session, first, STOP).error


def test_when_nobody_is_left_the_map_starts_anew_with_new_units():
    session = game()
    before = look(session)
    kill(session, before)
    assert look(session) == []
    step(session, 2)
    after = look(session)
    assert len(after) == len(before)
    assert not {unit.tag for unit in before} & {unit.tag for unit in after}


def test_the_field_may_stay_empty_for_a_while():
    session = game(respawn_delay=3)
    kill(session, look(session))
    counts = [(step(session, loops), len(look(session)))[1] for loops in (2, 1, 1)]
    assert counts == [0, 6, 6]


def test_looks_after_a_battle_may_be_stale():
    session = game(stale_looks=1)
    before = look(session)
    kill(session, before)
    step(session, 2)
    assert look(session) == before
    assert look(session)[0].tag != before[0].tag


def test_the_order_of_the_enemies_may_change_from_battle_to_battle():
    session, orders = game("8m", shuffle_enemies=True), []
    for _ in range(3):
        units = look(session)
        enemies = [unit.tag for unit in units if unit.owner == 2]
        orders.append([tag - min(enemies) for tag in enemies])
        kill(session, units)
        step(session, 2)
    assert len({tuple(order) for order in orders}) == 3
    assert all(sorted(order) == list(range(8)) for order in orders)


def test_a_session_may_end():
    session = game(end_at_loop=10)
    assert step(session, 8).status == IN_GAME
    assert step(session, 8).status == ENDED
    assert "already ended" in step(session, 8).error[0]
    assert ask(session, observation={}).observation.player_result


def test_requests_may_go_wrong():
    assert ask(Session(Script(error_at=1)), ping={}).error == ["An error, as ordered."]
    assert ask(Session(Script(wrong_id_at=1)), ping={}).id == 8
    for script, expected in [(Script(crash_at=2), (False, True)), (Script(crash_after=["ping"]), (True, True))]:
        session, crashed = Session(script), []
        for _ in range(2):
            ask(session, ping={})
            crashed.append(session.crashes)
        assert tuple(crashed) == expected
    session = Session(Script(hang_at=1))
    ask(session, ping={})
    assert session.hangs


def create(session, *units):
    commands = [
        {"create_unit": {"unit_type": number, "owner": owner, "pos": {"x": x, "y": y}, "quantity": 1}}
        for number, owner, x, y in units
    ]
    return ask(session, debug={"debug": commands})


MARINE, MEDIVAC = FIRST_COPY + COPIES.index("marine"), FIRST_COPY + COPIES.index("medivac")
TEAMS = [
    *((MARINE, 1, 4 + 3 * i, 10) for i in range(4)), (MEDIVAC, 1, 20, 5),
    *((48, 2, 4 + 3 * i, 22) for i in range(4)), (54, 2, 20, 26),
]  # fmt: skip


def test_on_smacv2_s_map_there_is_who_is_created_and_where():
    session = game(EMPTY_MAP, race="Terran", battle={"spawn_jitter": 0.0})
    assert look(session) == []
    assert len(ask(session, data={}).data.units) == FIRST_COPY + len(COPIES)
    create(session, *TEAMS)
    assert look(session) == []
    step(session, 1)
    seen = [(unit.unit_type, unit.owner, round(unit.pos.x), round(unit.pos.y)) for unit in look(session)]
    assert sorted(seen) == sorted(TEAMS)


def test_on_smacv2_s_map_nobody_comes_by_himself():
    session = game(EMPTY_MAP, race="Terran")
    create(session, *TEAMS)
    step(session, 1)
    kill(session, look(session))
    step(session, 2)
    assert look(session) == []
    create(session, *TEAMS)
    step(session, 1)
    assert len(look(session)) == 10


def test_more_units_are_another_scenario_and_units_that_are_none_an_error():
    session = game(EMPTY_MAP, race="Terran")
    create(session, *TEAMS)
    step(session, 1)
    kill(session, look(session))
    create(session, *TEAMS, *((MARINE, 1, 3 + 2 * i, 3) for i in range(5)), *((48, 2, 3 + 2 * i, 28) for i in range(5)))
    step(session, 1)
    assert len(look(session)) == 20
    create(session, TEAMS[0])
    assert "'terran_1_vs_0'" in step(session, 1).error[0]
