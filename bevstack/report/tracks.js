"use strict";
// Objects with an identity: a footprint and a tail of where they were, in a colour that stays with the track in all
// frames, and its name, which stays away from far objects and wide views, where names would hide what they name. Tracks
// below the score of the slider are left out.
const GOLDEN_TURN = 137.508; // neighbouring numbers get colours far apart
const NAMED_WITHIN_M = 45;
const trackColour = (number, alpha = 1) => `hsl(${((number * GOLDEN_TURN) % 360).toFixed(0)} 90% 68% / ${alpha})`;

function trackLayer(frames) {
  const box = document.getElementById("layer-tracks");
  box.closest("label").hidden = document.getElementById("track-key").hidden = !frames.some((frame) => Object.values(frame.tracks || {}).some((rows) => rows.length));

  // What is to be drawn; empty where the layer is off.
  function of(frame, row, minScore, isHidden) {
    const found = box.checked ? (frame.tracks || {})[row] || [] : [];
    return found.filter((track) => track.score >= minScore && !isHidden(track.class)).map((track) => {
      const [x, y, z] = track.way[track.way.length - 1], [length, width, height] = track.size;
      const c = Math.cos(track.yaw), s = Math.sin(track.yaw), l = length / 2, w = width / 2;
      const outline = [[l, w], [l, -w], [-l, -w], [-l, w]].map(([a, b]) => [x + a * c - b * s, y + a * s + b * c]);
      return { number: track.number, name: "#" + track.name, way: track.way, outline, top: [x, y, z + height / 2] };
    });
  }

  function onBird(g, tracks, place, hasNames) {
    g.font = "600 10px system-ui, sans-serif"; g.lineJoin = "round";
    for (const track of tracks) {
      g.beginPath(); track.outline.forEach(([x, y], k) => (k ? g.lineTo(...place(x, y)) : g.moveTo(...place(x, y)))); g.closePath();
      g.fillStyle = trackColour(track.number, 0.5); g.fill();
      g.strokeStyle = trackColour(track.number); g.lineWidth = 2.4;
      g.beginPath(); track.way.forEach(([x, y], k) => (k ? g.lineTo(...place(x, y)) : g.moveTo(...place(x, y)))); g.stroke();
      for (const [x, y] of track.way.slice(0, -1)) {
        g.beginPath(); g.arc(...place(x, y), 1.8, 0, 2 * Math.PI); g.fillStyle = trackColour(track.number); g.fill();
      }
      if (!hasNames) continue;
      const [u, v] = place(...track.outline[3]);
      g.lineWidth = 3; g.strokeStyle = "rgba(8,11,16,.8)"; g.strokeText(track.name, u + 3, v + 10);
      g.fillStyle = trackColour(track.number); g.fillText(track.name, u + 3, v + 10);
    }
  }

  // The name over each object that a camera sees.
  function onCamera(g, tracks, camera, toPixelOf) {
    const size = Math.max(7, Math.round(camera.width / 52));
    g.font = `600 ${size}px system-ui, sans-serif`; g.textAlign = "center";
    for (const track of tracks) {
      const pixel = Math.hypot(track.top[0], track.top[1]) <= NAMED_WITHIN_M ? toPixelOf(track.top) : null;
      if (!pixel || pixel[0] < 0 || pixel[0] > camera.width || pixel[1] < 0 || pixel[1] > camera.height) continue;
      const [u, v] = [pixel[0], Math.max(size, pixel[1] - 3)];
      g.lineWidth = size / 4; g.strokeStyle = "rgba(8,11,16,.85)"; g.strokeText(track.name, u, v);
      g.fillStyle = trackColour(track.number); g.fillText(track.name, u, v);
    }
    g.textAlign = "start";
  }

  return { of, onBird, onCamera };
}
