"use strict";
// The frame viewer. All geometry is in the vehicle's frame: x forward, y left, z up, metres.
// Box rows: x y z length width height yaw vx vy class counted [score].
const NAMES_BELOW_M = 36; // half the side of a bird's-eye view in which names of tracks fit
const X = 0, Y = 1, Z = 2, LENGTH = 3, WIDTH = 4, HEIGHT = 5, YAW = 6, VX = 7, VY = 8, CLASS = 9, COUNTED = 10, SCORE = 11;
const root = document.documentElement;
const byId = (id) => document.getElementById(id);
window.addEventListener("error", (event) => { root.dataset.error = event.message; });
window.addEventListener("unhandledrejection", (event) => { root.dataset.error = String(event.reason); });

byId("theme").addEventListener("click", () => {
  const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
});

function startViewer(data) {
  const LAYERS = ["points", "truth", "predictions", "mistakes", "labels", "forecasts", "tracks", "plan", "driven", "route", "attention"];
  const GRID = ["CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT"];
  // Flat pictures leave room below: two columns, left cameras on the left.
  const GRID_OF_FLAT = ["CAM_FRONT", "CAM_BACK", "CAM_FRONT_LEFT", "CAM_FRONT_RIGHT", "CAM_BACK_LEFT", "CAM_BACK_RIGHT"];
  const EDGES = [[0, 1], [1, 2], [2, 3], [3, 0], [4, 5], [5, 6], [6, 7], [7, 4], [0, 4], [1, 5], [2, 6], [3, 7]];
  const MISSED = "#ff4d4d", FALSE = "#ffc400", TRUTH = "#ffffff", NEAR_M = 0.2;
  const state = { frame: 0, row: data.primary, score: 0, radius: 54, hidden: new Set(), order: "rank", drawing: 0 };
  const frames = data.frames;
  const shown = (layer) => byId("layer-" + layer).checked;
  let order = frames.map((_, k) => k);
  let hoverBoxes = [];
  const ground = groundLayer(data.ground, frames, () => draw());
  const attention = attentionLayer(frames), forecasts = forecastLayer(frames);
  const tracks = trackLayer(frames), plans = planLayer(frames);

  // ------------------------------------------------------------ matching, by the rule of the counts in the metrics
  function matches(frame, row, minScore) {
    const truth = frame.ground_truth;
    const found = (frame.predictions[row] || []).map((box, k) => k).filter((k) => frame.predictions[row][k][SCORE] >= minScore);
    const boxes = frame.predictions[row] || [];
    found.sort((a, b) => boxes[b][SCORE] - boxes[a][SCORE]);
    const taken = new Set(), hits = new Set();
    for (const k of found) {
      if (!boxes[k][COUNTED]) continue;
      let best = -1, bestDistance = data.match_distance_m;
      truth.forEach((box, t) => {
        if (!box[COUNTED] || taken.has(t) || box[CLASS] !== boxes[k][CLASS]) return;
        const distance = Math.hypot(box[X] - boxes[k][X], box[Y] - boxes[k][Y]);
        if (distance < bestDistance) { best = t; bestDistance = distance; }
      });
      if (best >= 0) { taken.add(best); hits.add(k); }
    }
    const missed = truth.filter((box, t) => box[COUNTED] && !taken.has(t)).length;
    const wrong = found.filter((k) => boxes[k][COUNTED] && !hits.has(k)).length;
    return { found, hits, taken, matched: hits.size, missed, wrong };
  }

  // What is drawn: a list of {box, colour, fill, dash, kind, width}, weakest first.
  function drawList(frame, result) {
    const list = [], boxes = frame.predictions[state.row] || [];
    if (shown("truth")) {
      frame.ground_truth.forEach((box, t) => {
        if (state.hidden.has(box[CLASS])) return;
        const isMissed = shown("mistakes") && box[COUNTED] && !result.taken.has(t);
        list.push({
          box, kind: isMissed ? "missed" : "ground truth", colour: isMissed ? MISSED : TRUTH,
          fill: isMissed ? "rgba(255,77,77,.38)" : null, dash: box[COUNTED] ? [] : [2, 3], width: isMissed ? 2 : 1.3,
          alpha: box[COUNTED] ? 1 : 0.55,
        });
      });
    }
    if (shown("predictions")) {
      for (const k of result.found.slice().reverse()) {
        const box = boxes[k];
        if (state.hidden.has(box[CLASS])) continue;
        const isFalse = shown("mistakes") && box[COUNTED] && !result.hits.has(k);
        list.push({
          box, kind: isFalse ? "false" : "prediction", colour: data.classes[box[CLASS]].colour,
          fill: isFalse ? "rgba(255,196,0,.30)" : null, halo: isFalse ? FALSE : null,
          dash: box[COUNTED] ? [] : [2, 3], width: 2, alpha: box[COUNTED] ? 1 : 0.6,
        });
      }
    }
    return list;
  }

  // ------------------------------------------------------------ bird's-eye view
  const points = new Map();
  function pointsOf(frame) {
    if (!points.has(frame.token)) {
      const bytes = Uint8Array.from(atob(frame.points), (c) => c.charCodeAt(0));
      points.set(frame.token, new Int16Array(bytes.buffer));
    }
    return points.get(frame.token);
  }

  function heightColour(z) {
    const t = Math.min(1, Math.max(0, (z + 0.5) / 4));
    return `hsl(${215 - 175 * t} ${35 + 30 * t}% ${38 + 24 * t}%)`;
  }
  const HEIGHT_COLOURS = Array.from({ length: 32 }, (_, k) => heightColour(-0.5 + (4 * k) / 31));

  function footprint(box) {
    const c = Math.cos(box[YAW]), s = Math.sin(box[YAW]), l = box[LENGTH] / 2, w = box[WIDTH] / 2;
    return [[l, w], [l, -w], [-l, -w], [-l, w]].map(([a, b]) => [box[X] + a * c - b * s, box[Y] + a * s + b * c]);
  }

  function drawBev(frame, list, picture, lit, { ways, tracked, planned }) {
    const canvas = byId("bev"), side = canvas.clientWidth || 480, ratio = Math.max(2, window.devicePixelRatio || 1);
    canvas.width = canvas.height = side * ratio;
    const g = canvas.getContext("2d"), scale = side / (2 * state.radius);
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    const place = (x, y) => [side / 2 - y * scale, side / 2 - x * scale];
    g.fillStyle = "#0c1016";
    g.fillRect(0, 0, side, side);
    if (picture) {
      const [left, top] = place(picture.x[1], picture.y[1]), [right, bottom] = place(picture.x[0], picture.y[0]);
      g.imageSmoothingEnabled = false;
      g.drawImage(picture.canvas, left, top, right - left, bottom - top);
    }
    if (lit) attention.onBird(g, lit, place);
    g.lineWidth = 1; g.strokeStyle = picture || lit ? "rgba(150,165,185,.28)" : "#222c38"; g.fillStyle = "#6b7888"; g.font = "10px system-ui, sans-serif";
    const step = state.radius > 30 ? 10 : 5;
    for (let r = step; r < state.radius * 1.42; r += step) {
      g.beginPath(); g.arc(side / 2, side / 2, r * scale, 0, 2 * Math.PI); g.stroke();
      if (r < state.radius) g.fillText(r + " m", side / 2 + 3, side / 2 - r * scale - 2);
    }
    if (shown("points")) {
      const xyz = pointsOf(frame), unit = frame.point_unit_m, dot = Math.max(1, scale * 0.11);
      g.globalAlpha = picture ? 0.55 : 1;
      for (let k = 0; k < xyz.length; k += 3) {
        const [u, v] = place(xyz[k] * unit, xyz[k + 1] * unit);
        const level = Math.min(31, Math.max(0, Math.round(((xyz[k + 2] * unit + 0.5) / 4) * 31)));
        g.fillStyle = HEIGHT_COLOURS[level];
        g.fillRect(u - dot / 2, v - dot / 2, dot, dot);
      }
    }
    g.globalAlpha = 1;
    // The vehicle itself: origin at the rear axle.
    g.fillStyle = "#e8edf5";
    g.beginPath();
    [[3.9, 0], [2.9, 0.95], [-1, 0.95], [-1, -0.95], [2.9, -0.95]].forEach(([x, y], k) => {
      const [u, v] = place(x, y);
      if (k) g.lineTo(u, v); else g.moveTo(u, v);
    });
    g.fill();
    plans.draw(g, planned, place, 1);
    tracks.onBird(g, tracked, place, state.radius <= NAMES_BELOW_M || shown("labels"));
    forecasts.onBird(g, ways, place, (kind) => data.classes[kind].colour);
    for (const item of list) {
      const corners = footprint(item.box).map(([x, y]) => place(x, y));
      const outline = () => { g.beginPath(); corners.forEach(([u, v], k) => (k ? g.lineTo(u, v) : g.moveTo(u, v))); g.closePath(); };
      g.globalAlpha = item.alpha;
      if (item.halo) { outline(); g.setLineDash([]); g.strokeStyle = item.halo; g.lineWidth = item.width + 2.5; g.stroke(); }
      outline();
      if (item.fill) { g.fillStyle = item.fill; g.fill(); }
      g.setLineDash(item.dash); g.strokeStyle = item.colour; g.lineWidth = item.width; g.stroke();
      const ahead = item.box[LENGTH] / 2 + 0.8;
      const tip = place(item.box[X] + ahead * Math.cos(item.box[YAW]), item.box[Y] + ahead * Math.sin(item.box[YAW]));
      const middle = place(item.box[X], item.box[Y]);
      g.beginPath(); g.moveTo(...middle); g.lineTo(...tip); g.stroke();
      g.setLineDash([]);
      const speed = Math.hypot(item.box[VX] || 0, item.box[VY] || 0);
      if (speed > 0.5) {
        const end = place(item.box[X] + item.box[VX], item.box[Y] + item.box[VY]);
        g.lineWidth = 1; g.beginPath(); g.moveTo(...middle); g.lineTo(...end); g.stroke();
        g.beginPath(); g.arc(...end, 2, 0, 2 * Math.PI); g.fillStyle = item.colour; g.fill();
      }
      if (shown("labels")) {
        g.fillStyle = item.colour;
        g.fillText(label(item.box), corners[0][0] + 3, corners[0][1] - 3);
      }
    }
    g.globalAlpha = 1;
    if (picture) { g.fillStyle = "#e6ebf2"; g.font = "600 12px system-ui, sans-serif"; g.fillText(picture.title, 10, 20); }
    hoverBoxes = list.map((item) => ({ item, place }));
  }

  const label = (box) => data.classes[box[CLASS]].name + (box.length > SCORE ? " " + box[SCORE].toFixed(2) : "");

  // ------------------------------------------------------------ cameras
  function corners(box) {
    const ground = footprint(box), half = box[HEIGHT] / 2;
    return [...ground.map(([x, y]) => [x, y, box[Z] - half]), ...ground.map(([x, y]) => [x, y, box[Z] + half])];
  }

  function toCamera(T, p) {
    return [0, 4, 8].map((r) => T[r] * p[0] + T[r + 1] * p[1] + T[r + 2] * p[2] + T[r + 3]);
  }

  function toPixel(K, p) {
    return [(K[0] * p[0] + K[1] * p[1] + K[2] * p[2]) / p[2], (K[3] * p[0] + K[4] * p[1] + K[5] * p[2]) / p[2]];
  }

  function drawEdge(g, K, a, b) {
    if (a[2] < NEAR_M && b[2] < NEAR_M) return;
    if (a[2] < NEAR_M || b[2] < NEAR_M) {
      const t = (NEAR_M - a[2]) / (b[2] - a[2]);
      const cut = [a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1]), NEAR_M];
      if (a[2] < NEAR_M) a = cut; else b = cut;
    }
    const [u, v] = toPixel(K, a), [p, q] = toPixel(K, b);
    g.moveTo(u + 0.5, v + 0.5); g.lineTo(p + 0.5, q + 0.5);
  }

  function drawCamera(canvas, camera, image, list, lit, { tracked, planned }) {
    const ratio = 2;
    canvas.width = camera.width * ratio; canvas.height = camera.height * ratio;
    const g = canvas.getContext("2d");
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.drawImage(image, 0, 0, camera.width, camera.height);
    const patches = lit ? attention.onCamera(g, lit, camera, (x, y) => groundPixel(camera, x, y)) : 0;
    const thickness = camera.width / 500;
    const prints = plans.draw(g, planned, (x, y) => groundPixel(camera, x, y), thickness);
    for (const item of list) {
      const inCamera = corners(item.box).map((p) => toCamera(camera.T_cam_ego, p));
      if (inCamera.every((p) => p[2] < NEAR_M)) continue;
      const isInFront = inCamera.every((p) => p[2] >= NEAR_M);
      if (isInFront) {
        const pixels = inCamera.map((p) => toPixel(camera.K_cam, p));
        const us = pixels.map((p) => p[0]), vs = pixels.map((p) => p[1]);
        if (Math.max(...us) < 0 || Math.min(...us) > camera.width || Math.max(...vs) < 0 || Math.min(...vs) > camera.height) continue;
        g.globalAlpha = item.alpha;
        // The front face, so that one sees which way an object looks.
        g.beginPath(); [0, 1, 5, 4].forEach((k, n) => (n ? g.lineTo(...pixels[k]) : g.moveTo(...pixels[k]))); g.closePath();
        g.fillStyle = item.fill || item.colour; if (!item.fill) g.globalAlpha = item.alpha * 0.16; g.fill();
        if (shown("labels")) { g.globalAlpha = 1; g.font = `${Math.round(camera.width / 58)}px system-ui, sans-serif`; g.fillStyle = item.colour; g.fillText(label(item.box), Math.min(...us), Math.min(...vs) - 2); }
      }
      g.globalAlpha = item.alpha;
      g.beginPath(); EDGES.forEach(([a, b]) => drawEdge(g, camera.K_cam, inCamera[a], inCamera[b]));
      g.setLineDash(item.dash); g.strokeStyle = item.colour; g.lineWidth = item.width * thickness * 0.85; g.stroke(); g.setLineDash([]);
    }
    g.globalAlpha = 1;
    tracks.onCamera(g, tracked, camera, (point) => pixelOf(camera, point));
    return { patches, prints };
  }

  // Pixel of a point, on the ground or anywhere; null behind the camera.
  const groundPixel = (camera, x, y) => pixelOf(camera, [x, y, 0]);
  function pixelOf(camera, point) {
    const p = toCamera(camera.T_cam_ego, point);
    if (p[2] < NEAR_M) return null;
    const [u, v] = toPixel(camera.K_cam, p);
    return [u + 0.5, v + 0.5];
  }

  const images = new Map();
  function imageOf(camera) {
    if (!images.has(camera.src)) {
      const image = new Image();
      const loaded = new Promise((resolve, reject) => { image.onload = () => resolve(image); image.onerror = () => reject(new Error("picture of " + camera.name + " cannot be decoded")); });
      image.src = camera.src;
      images.set(camera.src, loaded);
      if (images.size > 30) images.delete(images.keys().next().value);
    }
    return images.get(camera.src);
  }

  const shortName = (name) => name.replace("CAM_", "").replace("_", " ").toLowerCase();
  async function drawCameras(frame, list, lit, moving, drawing) {
    const isFlat = frame.cameras.every((c) => c.width > 2.2 * c.height);
    const names = [...(isFlat ? GRID_OF_FLAT : GRID), ...frame.cameras.map((c) => c.name).filter((name) => !GRID.includes(name))];
    const present = names.map((name) => frame.cameras.find((c) => c.name === name)).filter(Boolean);
    const pictures = await Promise.all(present.map(imageOf));
    if (drawing !== state.drawing) return null;
    const grid = byId("cameras");
    grid.classList.toggle("flat", isFlat);
    while (grid.children.length > present.length) grid.lastChild.remove();
    while (grid.children.length < present.length) {
      const figure = document.createElement("figure");
      figure.append(document.createElement("canvas"), document.createElement("figcaption"));
      figure.addEventListener("click", () => figure.classList.toggle("large"));
      grid.append(figure);
    }
    let patches = 0, prints = 0;
    present.forEach((camera, k) => {
      const [canvas, caption] = grid.children[k].children;
      caption.textContent = shortName(camera.name);
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", "Camera " + shortName(camera.name) + " with boxes");
      const drawn = drawCamera(canvas, camera, pictures[k], list, lit, moving);
      patches += drawn.patches; prints += drawn.prints;
    });
    return { patches, prints };
  }

  // ------------------------------------------------------------ page
  async function draw() {
    const drawing = ++state.drawing;
    const frame = frames[state.frame], result = matches(frame, state.row, state.score), list = drawList(frame, result);
    byId("frame-title").textContent = `${frame.scene_name} · rank ${frame.rank}`;
    byId("frame-description").textContent = [frame.description, frame.location].filter(Boolean).join(" · ");
    byId("frame-counts").textContent = data.has_boxes === false ? "" : `${result.matched} matched, ${result.missed} missed, ${result.wrong} false`;
    byId("score-value").textContent = state.score.toFixed(2);
    document.querySelectorAll("#frame-list button").forEach((button) => {
      const isCurrent = Number(button.dataset.frame) === state.frame;
      button.setAttribute("aria-current", isCurrent);
      if (isCurrent) { const box = button.closest("ol"), top = button.offsetTop - box.offsetTop; if (top < box.scrollTop || top > box.scrollTop + box.clientHeight - 50) box.scrollTop = top - 60; }
    });
    const picture = await ground.pictureOf(frame, state.row), lit = await attention.of(frame, state.row);
    if (drawing !== state.drawing) return;
    const isHidden = (kind) => state.hidden.has(kind), planned = plans.of(frame, state.row);
    const ways = forecasts.of(frame, state.row, state.score, isHidden), tracked = tracks.of(frame, state.row, state.score, isHidden);
    const moving = { ways, tracked, planned };
    drawBev(frame, list, picture, lit, moving);
    const drawn = await drawCameras(frame, list, lit, moving, drawing);
    if (!drawn) return;
    Object.assign(root.dataset, { viewer: "drawn", frame: frame.token, matched: result.matched, missed: result.missed, wrong: result.wrong, boxes: list.length, pictures: byId("cameras").children.length, ground: picture ? picture.title : "nothing", cells: picture ? picture.cells : 0, patches: drawn.patches, ways: ways.length, tracks: tracked.length, plans: planned.map(({ kind }) => kind).join(" "), footprints: drawn.prints });
    const nextFrame = frames[order[order.indexOf(state.frame) + 1]];
    if (nextFrame) nextFrame.cameras.forEach(imageOf);
  }

  function fillList() {
    const byTime = (a, b) => frames[a].scene_name.localeCompare(frames[b].scene_name) || frames[a].timestamp_us - frames[b].timestamp_us;
    order = frames.map((_, k) => k).sort(state.order === "time" ? byTime : (a, b) => frames[a].rank - frames[b].rank);
    const firstTimes = {};
    frames.forEach((f) => { firstTimes[f.scene_name] = Math.min(firstTimes[f.scene_name] ?? Infinity, f.timestamp_us); });
    byId("frame-list").replaceChildren(...order.map((k) => {
      const frame = frames[k], item = document.createElement("li"), button = document.createElement("button");
      const where = document.createElement("span"), place = document.createElement("span"), chips = document.createElement("span");
      where.className = "where"; where.textContent = frame.scene_name; place.textContent = "#" + frame.rank; where.append(place);
      chips.className = "chips"; chips.textContent = data.has_boxes === false ? frame.location : `${frame.matched} matched · ${frame.missed} missed · ${frame.false} false`;
      button.type = "button"; button.dataset.frame = k; button.append(where, chips);
      button.addEventListener("click", () => { state.frame = k; draw(); });
      item.append(button);
      return item;
    }));
  }

  function go(offset) {
    const place = Math.min(order.length - 1, Math.max(0, order.indexOf(state.frame) + offset));
    state.frame = order[place];
    draw();
  }

  function chooseRow(row) {
    state.row = row;
    // Rounded down to the slider's step would admit other boxes, so the exact threshold is kept beside it.
    state.score = data.thresholds[row];
    byId("score").value = state.score;
    draw();
  }

  byId("legend").replaceChildren(...data.classes.map((item, k) => {
    const button = document.createElement("button"), dot = document.createElement("i");
    dot.className = "dot"; dot.style.background = item.colour;
    button.type = "button"; button.append(dot, item.name); button.setAttribute("aria-pressed", "true");
    button.addEventListener("click", () => {
      const isShown = state.hidden.has(k);
      if (isShown) state.hidden.delete(k); else state.hidden.add(k);
      button.setAttribute("aria-pressed", isShown);
      draw();
    });
    return button;
  }));
  byId("row").replaceChildren(...data.rows.map((row) => new Option(row, row)));
  byId("row-choice").hidden = data.rows.length < 2;
  byId("row").addEventListener("change", (event) => chooseRow(event.target.value));
  byId("score").addEventListener("input", (event) => { state.score = Number(event.target.value); draw(); });
  byId("score-reset").addEventListener("click", () => chooseRow(state.row));
  byId("order").addEventListener("change", (event) => { state.order = event.target.value; fillList(); draw(); });
  byId("previous").addEventListener("click", () => go(-1));
  byId("next").addEventListener("click", () => go(1));
  LAYERS.forEach((layer) => byId("layer-" + layer).addEventListener("change", draw));
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || ["SELECT", "INPUT"].includes(event.target.tagName) && event.target.type !== "checkbox") return;
    if (event.key === "ArrowLeft") { event.preventDefault(); go(-1); }
    if (event.key === "ArrowRight") { event.preventDefault(); go(1); }
    if (event.key === "g") ground.next();
    if (event.key === "t") ground.swap();
  });
  const bev = byId("bev"), tooltip = byId("tooltip");
  bev.addEventListener("wheel", (event) => {
    event.preventDefault();
    state.radius = Math.min(60, Math.max(8, state.radius * (event.deltaY > 0 ? 1.15 : 1 / 1.15)));
    draw();
  }, { passive: false });
  bev.addEventListener("mousemove", (event) => {
    const bounds = bev.getBoundingClientRect(), scale = bounds.width / (2 * state.radius);
    const x = (bounds.height / 2 - (event.clientY - bounds.top)) / scale, y = (bounds.width / 2 - (event.clientX - bounds.left)) / scale;
    const near = hoverBoxes.map(({ item }) => ({ item, distance: Math.hypot(item.box[X] - x, item.box[Y] - y) }))
      .filter(({ item, distance }) => distance < Math.max(1.2, item.box[LENGTH] / 2)).sort((a, b) => a.distance - b.distance).slice(0, 3);
    tooltip.hidden = near.length === 0;
    tooltip.textContent = near.map(({ item: { box, kind } }) =>
      `${kind}: ${label(box)}\n  ${Math.hypot(box[X], box[Y]).toFixed(1)} m away, ${box[VX] === null ? "speed unknown" : Math.hypot(box[VX], box[VY]).toFixed(1) + " m/s"}, ${box[LENGTH].toFixed(1)} × ${box[WIDTH].toFixed(1)} × ${box[HEIGHT].toFixed(1)} m`).join("\n");
    tooltip.style.left = Math.min(event.clientX - bounds.left + 14, bounds.width - 200) + "px";
    tooltip.style.top = event.clientY - bounds.top + 14 + "px";
  });
  bev.addEventListener("mouseleave", () => { tooltip.hidden = true; });
  let resizing = 0;
  window.addEventListener("resize", () => { clearTimeout(resizing); resizing = setTimeout(draw, 120); });
  fillList();
  state.frame = order[0];
  state.score = data.thresholds[data.primary];
  byId("score").value = state.score;
  ground.start();
}

const dataElement = byId("viewer-data");
if (dataElement) startViewer(JSON.parse(dataElement.textContent));
else root.dataset.viewer = "absent";
