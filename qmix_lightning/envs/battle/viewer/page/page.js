"use strict";
const LOOPS_A_SECOND = 22.4; // of a real second, at the speed that the game calls "faster"
const { colours, after, glows, fades, bursts, swung, crowd, body: BODY, battles } = JSON.parse(document.getElementById("battles").textContent);
const $ = (id) => document.getElementById(id);
const canvas = $("field"), pen = canvas.getContext("2d"), layer = document.createElement("canvas");
const rgb = (name, alpha = 1) => `rgba(${colours[name].join()},${alpha})`;
const mix = (a, b, share, alpha = 1) => `rgba(${colours[a].map((v, i) => Math.round(v + (colours[b][i] - v) * share)).join()},${alpha})`;
const teams = ["ALLY", "ENEMY"];
let battle, now = 0, playing = false, last = null, ground = null, scale = 1, west = 0, north = 0, mouse = null;

function decoded(text, type) {
  return new type(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
}

function open(index) {
  battle = battles[index];
  if (!battle.x) {
    for (const [name, { type, by, data }] of Object.entries(battle.fields)) {
      const raw = decoded(data, { u16: Uint16Array, i16: Int16Array, i8: Int8Array }[type]);
      battle[name] = by === 1 ? raw : Float32Array.from(raw, (v) => v / by);
    }
    battle.shots = decoded(battle.shots, Int32Array);
  }
  $("title").textContent = battle.title;
  $("ally-name").textContent = battle.team;
  $("time").max = battle.loops + after;
  $("battle").value = index;
  now = 0;
}

// The units at a moment between two recorded ones.
function units(time) {
  const n = battle.kind.length, at = Math.min(time, battle.loops) / battle.stride;
  const low = Math.floor(at), share = at - low, a = low * n, b = Math.min(low + 1, battle.x.length / n - 1) * n;
  return battle.kind.map((kind, i) => {
    const unit = { i, kind: battle.kinds[kind], team: i < battle.agents ? 0 : 1 };
    for (const name of ["health", "shield", "energy", "target", "order", "heals", "goal_x", "goal_y"]) unit[name] = battle[name][a + i];
    for (const name of ["x", "y"]) unit[name] = battle[name][a + i] + share * (battle[name][b + i] - battle[name][a + i]);
    const turn = battle.facing[b + i] - battle.facing[a + i];
    unit.facing = battle.facing[a + i] + share * Math.atan2(Math.sin(turn), Math.cos(turn));
    unit.since = time - battle.deaths[i];
    unit.lives = battle.deaths[i] < 0 || unit.since < 0;
    return unit;
  });
}

const px = (x) => (x - west) * scale, py = (y) => (north - y) * scale;
const between = (a, b, share) => ({ x: a.x + (b.x - a.x) * share, y: a.y + (b.y - a.y) * share });
const apart = (a, b) => Math.max(Math.hypot(a.x - b.x, a.y - b.y), 1e-6);

function line(a, b, colour, width) {
  pen.strokeStyle = colour; pen.lineWidth = width;
  pen.beginPath(); pen.moveTo(px(a.x), py(a.y)); pen.lineTo(px(b.x), py(b.y)); pen.stroke();
}
function disc(at, radius, colour) {
  pen.fillStyle = colour;
  pen.beginPath(); pen.arc(px(at.x), py(at.y), radius * scale, 0, 2 * Math.PI); pen.fill();
}
function ring(at, radius, share, colour, width) {
  if (share <= 0) return;
  pen.strokeStyle = colour; pen.lineWidth = width;
  pen.beginPath(); pen.arc(px(at.x), py(at.y), radius * scale - width / 2, -Math.PI / 2, (2 * Math.min(share, 1) - 0.5) * Math.PI); pen.stroke();
}
function shape(unit, size, alpha, marks) {
  const cos = size * Math.cos(unit.facing), sin = size * Math.sin(unit.facing);
  for (const [shade, points] of unit.kind.parts) {
    if (shade > 0.5 && !marks) continue;
    pen.fillStyle = mix(teams[unit.team], "INK", shade, alpha);
    pen.beginPath();
    for (const [x, y] of points) pen.lineTo(px(unit.x + x * cos - y * sin), py(unit.y + x * sin + y * cos));
    pen.fill();
  }
}

function drawGround() {
  ground = document.createElement("canvas");
  ground.width = canvas.width; ground.height = canvas.height;
  const draw = ground.getContext("2d"), cells = battle.walkable, open = (x, y) => cells[x] && cells[x][y] === "1";
  draw.scale(devicePixelRatio, devicePixelRatio);
  draw.fillStyle = rgb("WALL"); draw.fillRect(0, 0, canvas.width, canvas.height);
  const edges = { GRID: new Path2D(), EDGE: new Path2D() };
  draw.fillStyle = rgb("GROUND");
  for (let x = 0; x < cells.length; x++) for (let y = 0; y < cells[x].length; y++) {
    if (!open(x, y)) continue;
    draw.fillRect(px(x) - 0.3, py(y + 1) - 0.3, scale + 0.6, scale + 0.6);
    for (const [dx, dy, x0, y0, x1, y1] of [[0, -1, 0, 0, 1, 0], [1, 0, 1, 0, 1, 1], [0, 1, 1, 1, 0, 1], [-1, 0, 0, 1, 0, 0]]) {
      const path = edges[open(x + dx, y + dy) ? "GRID" : "EDGE"];
      path.moveTo(px(x + x0), py(y + y0)); path.lineTo(px(x + x1), py(y + y1));
    }
  }
  for (const [name, width] of [["GRID", 1], ["EDGE", 2]]) { draw.strokeStyle = rgb(name); draw.lineWidth = width; draw.stroke(edges[name]); }
}

// The ground that a team's weapons reach: a tint, and the outline of all circles together.
function drawRanges(all, team) {
  const draw = layer.getContext("2d"), circles = (grown) => {
    draw.beginPath();
    for (const unit of all) if (unit.team === team && unit.lives && unit.kind.range >= swung) {
      const radius = (unit.kind.radius + unit.kind.range) * scale + grown;
      draw.moveTo(px(unit.x) + radius, py(unit.y)); draw.arc(px(unit.x), py(unit.y), radius, 0, 2 * Math.PI);
    }
  };
  if (layer.width !== canvas.width || layer.height !== canvas.height) { layer.width = canvas.width; layer.height = canvas.height; }
  draw.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
  draw.clearRect(0, 0, canvas.width, canvas.height);
  circles(0); draw.fillStyle = rgb(teams[team], 0.36); draw.fill();
  draw.globalCompositeOperation = "destination-out";
  circles(-1.2); draw.fillStyle = "#000"; draw.fill();
  draw.globalCompositeOperation = "source-over";
  draw.fillStyle = rgb(teams[team], 0.05); draw.fill();
  pen.drawImage(layer, 0, 0, canvas.width / devicePixelRatio, canvas.height / devicePixelRatio);
}

function drawDead(unit) {
  const gone = Math.min(unit.since / fades, 1), arm = 0.3 * Math.min(unit.kind.radius, 0.6);
  const tint = mix(teams[unit.team], "GROUND", 0.45 + 0.2 * gone, 0.9 * gone);
  for (const side of [1, -1]) line({ x: unit.x - arm, y: unit.y - side * arm }, { x: unit.x + arm, y: unit.y + side * arm }, tint, 1.6);
  if (unit.kind.burst && unit.since < bursts) {
    const grown = unit.kind.burst * Math.sqrt((unit.since + 1) / bursts), alpha = 1 - unit.since / bursts;
    disc(unit, grown, rgb(teams[unit.team], 0.4 * alpha)); ring(unit, grown, 1, rgb("SPARK", 0.9 * alpha), 1.6);
  }
  if (gone === 1) return;
  ring(unit, unit.kind.radius * (1 + 0.9 * gone), 1, rgb(teams[unit.team], 0.8 * (1 - gone)), 1.6);
  shape(unit, BODY * unit.kind.radius * (1 - 0.25 * gone), (1 - gone) ** 1.5, true);
}

function drawOrder(unit, all, strength) {
  const target = unit.target >= 0 && all[unit.target], team = teams[unit.team];
  if (target && target.lives) line(unit, target, rgb(team, strength * (unit.order === 2 || unit.team ? 0.38 : 0.25)), 1.2);
  else if (!target && unit.order === 1) {
    const end = { x: unit.goal_x, y: unit.goal_y }, angle = Math.atan2(end.y - unit.y, end.x - unit.x);
    line(unit, end, rgb(team, 0.55), 1.4);
    for (const turn of [0.8, -0.8]) line(end, { x: end.x - 0.22 * Math.cos(angle + turn), y: end.y - 0.22 * Math.sin(angle + turn) }, rgb(team, 0.55), 1.4);
  }
}

function drawUnit(unit) {
  const { kind } = unit, team = teams[unit.team], width = Math.max(Math.min(2.2, 0.3 * kind.radius * scale), 0.07 * scale);
  if (kind.level) disc({ x: unit.x + 0.12 * kind.level, y: unit.y - 0.18 * kind.level }, kind.radius, rgb("INK", 0.35));
  disc(unit, kind.radius, rgb("WALL", 0.75));
  ring(unit, kind.radius, 1, mix(team, "INK", 0.72), width);
  ring(unit, kind.radius, unit.health / kind.health, mix(team, "SPARK", 0.35), width);
  for (const [share, tint] of [[kind.shield && unit.shield / kind.shield, "SHIELD"], [kind.energy && unit.energy / kind.energy, "ENERGY"]])
    ring(unit, kind.radius + (width + 0.4) / scale, share, rgb(tint), 0.9 * width);
  const legible = unit.team === 0 && kind.radius * scale >= 8;
  shape(unit, BODY * kind.radius, 1, !legible);
  if (!legible) return;
  pen.font = `${Math.max(battle.smallest * scale, 9)}px ${getComputedStyle(document.body).fontFamily}`;
  pen.textAlign = "center"; pen.textBaseline = "middle"; pen.lineJoin = "round";
  pen.strokeStyle = rgb("INK"); pen.lineWidth = 2.4; pen.strokeText(unit.i, px(unit.x), py(unit.y));
  pen.fillStyle = rgb("TEXT"); pen.fillText(unit.i, px(unit.x), py(unit.y));
}

function drawRay(a, b, alpha, team) {
  line(a, b, rgb(team, 0.35 * alpha), 3.6); line(a, b, mix(team, "SPARK", 0.6, alpha), 1.5);
}

function drawShot(start, end, gun, hit, time) {
  const length = apart(gun, hit), team = teams[gun.team], muzzle = between(gun, hit, Math.min(gun.kind.radius / length, 1));
  const share = (time - start) / Math.max(end - start, 1), left = 1 - Math.max(time - end, 0) / glows;
  if (gun.kind.attack === "missile" && time < end) {
    const nose = between(muzzle, hit, share), trail = Math.min(0.9 / apart(muzzle, hit), 1);
    line(between(muzzle, hit, Math.max(share - trail, 0)), nose, rgb(team, 0.55), 3.2);
    return disc(nose, 0.16, mix(team, "SPARK", 0.6));
  }
  if (gun.kind.attack === "beams") {
    const reach = gun.kind.sweep / length, across = { x: (hit.y - gun.y) * reach, y: (gun.x - hit.x) * reach };
    for (const side of [1, -1]) {
      const first = { x: hit.x + side * across.x, y: hit.y + side * across.y }, at = between(first, hit, 2 * Math.min(share, 1));
      line(first, at, rgb("SPARK", 0.7 * left), 3);
      if (left === 1) drawRay(gun, at, 1, team);
    }
    return;
  }
  const edge = between(hit, gun, Math.min(hit.kind.radius * 0.8 / length, 1));
  if (gun.kind.attack === "shot") drawRay(muzzle, edge, left, team);
  disc(edge, 0.08 + 0.12 * (1 - left), rgb("SPARK", 0.9 * left));
}

function drawHealing(unit, target) {
  line(unit, target, rgb("HEAL", 0.25), 5); line(unit, target, rgb("HEAL", 0.9), 1.6);
}

function draw() {
  const all = units(now), width = canvas.width / devicePixelRatio;
  pen.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
  if (!ground) drawGround();
  pen.drawImage(ground, 0, 0, width, canvas.height / devicePixelRatio);
  all.filter((unit) => !unit.lives).forEach(drawDead);
  if ($("ranges").checked) [1, 0].forEach((team) => drawRanges(all, team));
  const living = all.filter((unit) => unit.lives).sort((a, b) => a.kind.level - b.kind.level);
  if ($("orders").checked && now <= battle.loops) living.forEach((unit) => drawOrder(unit, all, Math.min(1, Math.sqrt(crowd / living.length))));
  living.forEach(drawUnit);
  for (const unit of living) if (unit.heals && unit.target >= 0) drawHealing(unit, all[unit.target]);
  for (let k = 0; k < battle.shots.length; k += 4) {
    const [start, end, shooter, target] = battle.shots.subarray(k, k + 4);
    if (start <= now && now < end + glows) drawShot(start, end, all[shooter], all[target], now);
  }
  tell(all);
}

function tell(all) {
  ["ally", "enemy"].forEach((name, team) => {
    const members = all.filter((unit) => unit.team === team), sum = (of) => members.reduce((total, unit) => total + of(unit), 0);
    $(`${name}-count`).textContent = `${members.filter((unit) => unit.lives).length} of ${members.length}`;
    $(`${name}-bar`).style.width = `${100 * sum((unit) => unit.health + unit.shield) / sum((unit) => unit.kind.health + unit.kind.shield)}%`;
  });
  $("step").textContent = `step ${Math.min(Math.ceil(now / battle.step_loops - 1e-9), battle.rewards.length)} of ${battle.rewards.length}`;
  $("time").value = now;
  const banner = $("banner"), over = now - battle.loops;
  banner.hidden = over <= 0;
  if (over > 0) {
    const [word, colour] = { won: ["VICTORY", "ALLY"], lost: ["DEFEAT", "ENEMY"], "out of time": ["OUT OF TIME", "TEXT"] }[battle.outcome];
    const alive = all.filter((unit) => unit.lives && unit.team === 0).length;
    banner.style.color = rgb(colour); banner.style.opacity = Math.min(over / (0.6 * after), 1);
    banner.children[0].textContent = word;
    banner.children[1].textContent = `${battle.rewards.length} steps · ${alive} of ${battle.agents} alive · return ${battle.rewards.reduce((a, b) => a + b, 0).toFixed(1)}`;
  }
  const about = $("about"), unit = mouse && all.find((each) => each.lives && Math.hypot(px(each.x) - mouse.x, py(each.y) - mouse.y) < Math.max(each.kind.radius * scale, 8));
  about.hidden = !unit;
  if (unit) {
    const doing = unit.target >= 0 && all[unit.target].lives ? `${all[unit.target].team === unit.team ? "helps" : "attacks"} ${all[unit.target].kind.name} ${all[unit.target].i}`
      : ["stands", "moves", "attacks", "attack-moves", "heals", "hunts", "dies"][unit.order];
    about.textContent = `${unit.kind.name} ${unit.i}, ${doing}\nhealth ${unit.health.toFixed(1)} of ${unit.kind.health}`
      + (unit.kind.shield ? `\nshield ${unit.shield.toFixed(1)} of ${unit.kind.shield}` : "") + (unit.kind.energy ? `\nenergy ${unit.energy.toFixed(1)}` : "");
    about.style.left = `${mouse.x + 14}px`; about.style.top = `${mouse.y + 14}px`;
  }
}

function seek(time) { now = Math.max(0, Math.min(time, battle.loops + after)); draw(); }
function play(on) {
  if (on && now >= battle.loops + after) now = 0;
  playing = on; last = null; $("play").textContent = on ? "Pause" : "Play";
  if (on) requestAnimationFrame(tick);
}
function tick(time) {
  if (!playing) return;
  if (last !== null) seek(now + (time - last) / 1000 * LOOPS_A_SECOND * $("speed").value);
  last = time;
  if (now >= battle.loops + after) return play(false);
  requestAnimationFrame(tick);
}
function fit() {
  const { clientWidth: width, clientHeight: height } = document.querySelector("main");
  scale = Math.min(width / battle.across, height / battle.up);
  west = battle.west - (width / scale - battle.across) / 2; north = battle.north + (height / scale - battle.up) / 2;
  canvas.style.width = `${width}px`; canvas.style.height = `${height}px`;
  canvas.width = Math.round(width * devicePixelRatio); canvas.height = Math.round(height * devicePixelRatio);
  ground = null; draw();
}
function choose(index) { open(index); fit(); }

$("play").onclick = () => play(!playing);
$("time").oninput = (event) => { play(false); seek(Number(event.target.value)); };
$("ranges").onchange = $("orders").onchange = draw;
$("battle").onchange = (event) => choose(Number(event.target.value));
canvas.onmousemove = (event) => { mouse = { x: event.offsetX, y: event.offsetY }; draw(); };
canvas.onmouseleave = () => { mouse = null; draw(); };
canvas.onclick = () => play(!playing);
onresize = fit;
onkeydown = (event) => {
  const keys = {
    " ": () => play(!playing), ArrowLeft: () => step(-battle.step_loops), ArrowRight: () => step(battle.step_loops), ",": () => step(-1), ".": () => step(1),
    Home: () => step(-1e9), End: () => step(1e9), r: () => $("ranges").click(), o: () => $("orders").click(),
    b: () => choose((battles.indexOf(battle) + 1) % battles.length),
  };
  const step = (by) => { play(false); seek(Math.round(now) + by); };
  const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (act && !event.ctrlKey && !event.metaKey && !event.altKey) { event.preventDefault(); act(); }
};
if (battles.length > 1) {
  $("battle").hidden = $("keys-battle").hidden = false;
  battles.forEach((each, i) => $("battle").add(new Option(`battle ${i + 1}: ${each.outcome}`, i)));
}
// A page opened at #40 shows that game loop.
choose(0);
if (location.hash) seek(Number(location.hash.slice(1))); else play(true);
