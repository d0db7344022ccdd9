"use strict";
// Where the vehicle is told to go, where it plans to go, and where it went: way points of the route, the plan with the
// vehicle's footprint at each step, and its true future. Boxes are x y length width yaw, now and every half a second.
const PLAN_COLOUR = "#b6ff3d", DRIVEN_COLOUR = "#ffffff", ROUTE_COLOUR = "#8f9bff";
const SOURCES = { learned: "the model's own proposal", candidate: "a candidate of the rules", fallback_stop: "a stop, since nothing else was safe" };

function planLayer(frames) {
  const byId = (id) => document.getElementById(id), words = byId("plan");
  const has = {
    plan: (frame) => Object.keys(frame.plans || {}).length > 0,
    driven: (frame) => (frame.driven || []).length > 1,
    route: (frame) => Boolean(frame.route),
  };
  for (const [layer, isIn] of Object.entries(has)) {
    byId("layer-" + layer).closest("label").hidden = byId(layer + "-key").hidden = !frames.some(isIn);
  }

  // Lines to draw, the route first: {way, boxes, colour, dash, isDotted}; those of layers that are off are left out.
  function of(frame, row) {
    const plan = (frame.plans || {})[row], lines = [], isOn = (layer) => byId("layer-" + layer).checked;
    say(frame, plan);
    const centres = (boxes) => boxes.map(([x, y]) => [x, y]);
    if (has.route(frame) && isOn("route") && frame.route.waypoints.length) {
      lines.push({ kind: "route", way: frame.route.waypoints, boxes: [], colour: ROUTE_COLOUR, dash: [2, 4], isDotted: true });
    }
    if (has.driven(frame) && isOn("driven")) {
      lines.push({ kind: "driven", way: centres(frame.driven), boxes: frame.driven.slice(-1), colour: DRIVEN_COLOUR, dash: [5, 3], isDotted: false });
    }
    if (plan && isOn("plan")) lines.push({ kind: "plan", way: centres(plan.boxes), boxes: plan.boxes.slice(1), colour: PLAN_COLOUR, dash: [], isDotted: true });
    return lines;
  }

  function say(frame, plan) {
    words.hidden = !plan && !frame.route;
    const parts = [];
    if (frame.route) {
      const limit = frame.route.speed_limit_mps;
      parts.push(`Route: ${frame.route.command}, ${frame.route.waypoints.length} way points` + (limit === null ? "" : `, at most ${(3.6 * limit).toFixed(0)} km/h`));
    }
    if (plan) {
      const end = plan.boxes[plan.boxes.length - 1], start = plan.boxes[0], far = Math.hypot(end[0] - start[0], end[1] - start[1]);
      const source = plan.source ? `${plan.source} (${SOURCES[plan.source] || "source not known here"})` : "source not kept";
      parts.push(`Plan: ${source}, ${far.toFixed(1)} m ahead in ${((plan.boxes.length - 1) / 2).toFixed(0)} s` + (plan.command && !frame.route ? `, asked to go ${plan.command}` : ""));
    }
    const list = document.createElement("ul");
    for (const reason of plan ? plan.reasons : []) {
      const item = document.createElement("li");
      item.textContent = reason;
      list.append(item);
    }
    words.replaceChildren(parts.join(". ") + (parts.length ? "." : ""), ...(list.children.length ? [list] : []));
  }

  function footprint([x, y, length, width, yaw]) {
    const c = Math.cos(yaw), s = Math.sin(yaw), l = length / 2, w = width / 2;
    return [[l, w], [l, -w], [-l, -w], [-l, w]].map(([a, b]) => [x + a * c - b * s, y + a * s + b * c]);
  }

  // Draws with a function from (x, y) on the ground to a pixel, or null where it cannot be seen; returns how many
  // footprints were drawn. Points of a line are close together, so a piece with an end that is not seen is left out.
  function draw(g, lines, toPixel, thickness) {
    let drawn = 0;
    for (const { way, boxes, colour, dash, isDotted } of lines) {
      g.strokeStyle = g.fillStyle = colour;
      for (const box of boxes) {
        const corners = footprint(box).map(([x, y]) => toPixel(x, y));
        if (!corners.every(Boolean)) continue;
        g.beginPath(); corners.forEach(([u, v], k) => (k ? g.lineTo(u, v) : g.moveTo(u, v))); g.closePath();
        g.globalAlpha = 0.1; g.fill();
        g.globalAlpha = 0.75; g.lineWidth = 1.1 * thickness; g.setLineDash(dash.map((each) => each * thickness)); g.stroke();
        drawn += 1;
      }
      g.globalAlpha = 1; g.lineWidth = 2.2 * thickness; g.setLineDash(dash.map((each) => each * thickness));
      g.beginPath();
      let before = null;
      for (const [x, y] of dense(way)) {
        const pixel = toPixel(x, y);
        if (pixel && before) g.lineTo(...pixel); else if (pixel) g.moveTo(...pixel);
        before = pixel;
      }
      g.stroke(); g.setLineDash([]);
      if (!isDotted) continue;
      for (const [x, y] of way) {
        const pixel = toPixel(x, y);
        if (pixel) { g.beginPath(); g.arc(...pixel, 2.2 * thickness, 0, 2 * Math.PI); g.fill(); }
      }
    }
    return drawn;
  }

  // The same way with a point at least every half metre.
  function dense(way) {
    return way.flatMap(([x, y], k) => {
      if (!k) return [[x, y]];
      const [a, b] = way[k - 1], count = Math.max(1, Math.ceil(Math.hypot(x - a, y - b) / 0.5));
      return Array.from({ length: count }, (_, n) => [a + ((x - a) * (n + 1)) / count, b + ((y - b) * (n + 1)) / count]);
    });
  }

  return { of, draw };
}
