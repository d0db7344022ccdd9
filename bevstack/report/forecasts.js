"use strict";
// Where found objects may go next: a line for each mode from the object on, the fainter the less probable, and a dot
// where the most probable one is at each whole second. Objects below the score of the slider have none.
const FAINTEST = 0.12, STEP_S = 0.5, STILL_M = 0.5;

function forecastLayer(frames) {
  const box = document.getElementById("layer-forecasts");
  box.closest("label").hidden = !frames.some((frame) => Object.values(frame.forecasts || {}).some((rows) => rows.length));

  // What is to be drawn, the least probable modes first; empty where the layer is off.
  function of(frame, row, minScore, isHidden) {
    const found = box.checked ? (frame.forecasts || {})[row] || [] : [], lines = [];
    for (const item of found) {
      if (item.score < minScore || isHidden(item.class)) continue;
      const most = Math.max(...item.modes.map((mode) => mode.probability));
      item.modes.forEach(({ probability, way }) => {
        const [x, y] = way[0], moves = way.some(([u, v]) => Math.hypot(u - x, v - y) > STILL_M);
        if (moves) lines.push({ way, class: item.class, alpha: FAINTEST + (1 - FAINTEST) * probability, isBest: probability === most });
      });
    }
    return lines.sort((a, b) => a.alpha - b.alpha);
  }

  function onBird(g, lines, place, colourOf) {
    for (const { way, class: kind, alpha, isBest } of lines) {
      g.globalAlpha = alpha;
      g.strokeStyle = g.fillStyle = colourOf(kind);
      g.lineWidth = isBest ? 2 : 1.4;
      g.beginPath();
      way.forEach(([x, y], k) => (k ? g.lineTo(...place(x, y)) : g.moveTo(...place(x, y))));
      g.stroke();
      if (!isBest) continue;
      way.forEach(([x, y], k) => {
        if (!k || (k * STEP_S) % 1) return;
        g.beginPath(); g.arc(...place(x, y), 2.2, 0, 2 * Math.PI); g.fill();
      });
    }
    g.globalAlpha = 1;
  }

  return { of, onBird };
}
