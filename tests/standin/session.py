"""One session of StarCraft II as its protocol shows it: requests in, responses out, one battle after the other."""

from __future__ import annotations

import time
from pathlib import PurePosixPath, PureWindowsPath

import numpy as np

from qmix_lightning.envs.adapters.protobuf import import_protocol
from tests.standin.battle import LOOPS_BEFORE_FIRST_SIGHT, Battle
from tests.standin.numbers import AGENTS, ATTACK, COPIES, EMPTY_MAP, ENEMIES, HEAL, MOVE, STOP, TYPES, name_of

import_protocol()
from s2clientprotocol import common_pb2 as common  # noqa: E402  (importable from here on)
from s2clientprotocol import raw_pb2 as raw  # noqa: E402
from s2clientprotocol import sc2api_pb2 as api  # noqa: E402


class Session:
    """What one process plays.

    Args:
        script: What it has been told to do.
        log: Where to write the kinds of requests, if anywhere.
    """

    def __init__(self, script, log=None):
        self._script, self._log = script, log
        self._status, self._battle, self._kinds, self._loop = api.launched, None, [], 0
        self._born, self._tags, self._empty_for, self._stale = 0, [], 0, (0, [])
        self._map, self._seed, self._race, self._created, self._names, self._order = "", 0, "", [], COPIES, []
        self.over = self.hangs = self.crashes = False

    def answer(self, message):
        """The response to a request, both in bytes."""
        request = api.Request.FromString(message)
        kind = request.WhichOneof("request")
        self._note(kind)
        number, response = len(self._kinds), api.Response(id=request.id)
        try:
            if number == self._script.error_at:
                raise ValueError("An error, as ordered.")
            getattr(response, kind).SetInParent()
            getattr(self, f"_{kind}")(getattr(request, kind), getattr(response, kind))
        except ValueError as error:
            response.ClearField(kind)
            response.error.append(str(error))
        end = self._script.end_at_loop
        if self._status == api.in_game and end is not None and self._loop >= end:
            self._status = api.ended
        response.status = self._status
        response.id += number == self._script.wrong_id_at
        return response.SerializeToString()

    def _note(self, kind):
        self._kinds.append(kind)
        if self._log is not None:
            with self._log.open("a") as log:
                log.write(f"{kind}\n")
        number, last = len(self._kinds), self._script.crash_after
        self.crashes = number == self._script.crash_at or (last != [] and self._kinds[-len(last) :] == last)
        self.hangs = number == self._script.hang_at

    def _ping(self, request, response):
        response.game_version, response.base_build, response.data_build = "4.10.0.75689", 75689, 75689
        response.data_version = "B89B5D6FA7CBF6452E721311BFBC6CB2"

    def _create_game(self, request, response):
        path = PureWindowsPath(request.local_map.map_path).as_posix()
        self._map, self._seed = PurePosixPath(path).stem, request.random_seed
        if self._map != EMPTY_MAP:
            self._play_on(self._map)
            self._names = self._battle.agent_names
        self._status = api.init_game

    def _join_game(self, request, response):
        response.player_id = AGENTS
        self._race = common.Race.Name(request.race).lower()
        if self._map == EMPTY_MAP:
            self._play_on(f"{self._race}_5_vs_5")  # for its ground; which one it is shows when units are created
        else:
            self._respawn()
            self._battle.play(LOOPS_BEFORE_FIRST_SIGHT)
        self._status = api.in_game

    def _play_on(self, name):
        self._battle = Battle(name, self._seed, **self._script.battle)

    def _game_info(self, request, response):
        start, (width, height) = response.start_raw, self._battle.walkable.shape
        start.map_size.x, start.map_size.y = width, height
        start.playable_area.p0.SetInParent()
        start.playable_area.p1.x, start.playable_area.p1.y = width, height
        for image in (start.pathing_grid, start.terrain_height):
            image.size.x, image.size.y = width, height
        rows = self._battle.walkable.T  # from south to north
        start.pathing_grid.bits_per_pixel = self._script.pathing_bits
        if self._script.pathing_bits == 1:
            start.pathing_grid.data = np.packbits(rows, axis=1).tobytes()
        else:
            start.pathing_grid.data = np.where(rows[::-1], 0, 255).astype(np.uint8).tobytes()
        start.terrain_height.bits_per_pixel = 8
        start.terrain_height.data = self._battle.height.T[::-1].tobytes()

    def _observation(self, request, response):
        response.observation.game_loop = self._loop
        response.observation.raw_data.SetInParent()
        looks, units = self._stale
        if looks > 0:
            self._stale = looks - 1, units
        else:
            units = self._show()
        response.observation.raw_data.units.extend(units)
        if self._status == api.ended:
            response.player_result.add(player_id=AGENTS, result=api.Tie)

    def _action(self, request, response):
        slots = {tag: slot for slot, tag in enumerate(self._tags)}
        for action in request.actions:
            command = action.action_raw.unit_command
            target, point = command.target_unit_tag, command.target_world_space_pos
            for slot in [slots[tag] for tag in command.unit_tags if tag in slots]:
                if command.ability_id == STOP:
                    self._battle.stop(slot)
                elif command.ability_id == MOVE:
                    self._battle.move(slot, point.x, point.y)
                elif command.ability_id in (ATTACK, HEAL):
                    if (command.ability_id == HEAL) != (slots[target] < self._battle.n_agents):
                        raise ValueError("Expected attacks on enemies and healing of agents.")
                    self._battle.target(slot, slots[target])
                else:
                    raise ValueError(f"Expected ability {MOVE}, {ATTACK}, {STOP} or {HEAL}, got {command.ability_id}.")
            response.result.append(1)

    def _step(self, request, response):
        if self._status == api.ended:
            raise ValueError("Game has already ended")
        time.sleep(self._script.step_delay)
        count = request.count
        self._loop += count
        if self._created:
            self._muster()
        elif self._map != EMPTY_MAP and not any(self._battle.units()):
            count -= (waits := min(count, self._empty_for))
            self._empty_for -= waits
            if self._empty_for > 0:
                return
            self._respawn()
        self._battle.play(count)

    def _debug(self, request, response):
        slots = {tag: slot for slot, tag in enumerate(self._tags)}
        if self._script.stale_looks:
            self._stale = self._script.stale_looks, self._show()
        for command in request.debug:
            self._battle.kill([slots[tag] for tag in command.kill_unit.tag if tag in slots])
            if command.HasField("create_unit"):
                new = command.create_unit
                own = new.owner == AGENTS
                name = name_of(new.unit_type, own, COPIES, self._script.first_type)
                self._created.append((own, name, new.pos.x, new.pos.y))

    def _data(self, request, response):
        for number in range(self._script.first_type + len(COPIES)):
            response.units.add(unit_id=number)

    def _save_replay(self, request, response):
        response.data = b"MPQ, if this were StarCraft II."

    def _quit(self, request, response):
        self._status, self.over = api.quit, True

    def _respawn(self):
        """What the map's trigger does when nobody is left."""
        self._battle.spawn()
        self._begin()

    def _muster(self):
        """Begin a battle of the units that were created."""
        agents = sum(own for own, *_ in self._created)
        name = f"{self._race}_{agents}_vs_{len(self._created) - agents}"
        if self._battle.name != name:
            self._play_on(name)
        self._battle.begin(self._created)
        self._created = []
        self._begin()

    def _begin(self):
        """Give the units of a new battle their tags and their order."""
        slots = [unit.slot for unit in self._battle.units()]
        self._tags = [0x100000001 + self._born + slot for slot in slots]
        self._order = list(reversed(slots[: self._battle.n_agents])) + slots[self._battle.n_agents :]
        if self._script.shuffle_enemies:
            self._order = np.random.default_rng(self._born).permutation(slots).tolist()
        self._born += len(slots)
        self._empty_for = self._script.respawn_delay

    def _show(self):
        """The units that live: the agents backwards, so that who wants them sorted must sort, and the enemies."""
        living = {unit.slot: unit for unit in self._battle.units()}
        return [self._unit(living[slot]) for slot in self._order if slot in living]

    def _unit(self, unit):
        own = unit.agent
        kind = self._script.first_type + self._names.index(unit.name) if own else TYPES[unit.name]
        shown = raw.Unit(
            display_type=raw.Visible, alliance=raw.Self if own else raw.Enemy, owner=AGENTS if own else ENEMIES,
            tag=self._tags[unit.slot], unit_type=kind, health=unit.health, health_max=unit.health_max,
            shield=unit.shield, shield_max=unit.shield_max, energy=unit.energy, weapon_cooldown=unit.cooldown,
            build_progress=1,
        )  # fmt: skip
        shown.pos.x, shown.pos.y, shown.pos.z = unit.x, unit.y, 10
        return shown
