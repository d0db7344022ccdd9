"use strict";
// Where a cue has lit up the features of a model: a glow over the bird's-eye view, and over the ground in the cameras.
// The brightest cell of a frame glows most and the darkest not at all; the caption says which weights these are. The
// glow goes with the square of the strength, so that the middling cells do not drown what lies below them.
const GLOW = [196, 64, 255], MAX_GLOW = 0.65, EVEN_STRENGTH = 0.5, MIN_DRAWN = 0.2;
const opacityOf = (strength) => MAX_GLOW * strength * strength;

function attentionLayer(frames) {
  const box = document.getElementById("layer-attention"), words = document.getElementById("cue");
  box.closest("label").hidden = document.getElementById("lit-key").hidden = !frames.some((frame) => (frame.rasters || {}).attention);

  // Cells with their strength from 0 to 1; null where the frame has no cue or the layer is off.
  async function of(frame, row) {
    const raster = ((frame.rasters || {}).attention || {})[row];
    words.hidden = document.getElementById("lit-note").hidden = !raster;
    words.textContent = raster ? raster.caption : "";
    if (!raster || !box.checked) return null;
    const { numbers, width, height } = await numbersOf(raster.png);
    let low = 255, high = 0;
    numbers.forEach((value) => { low = Math.min(low, value); high = Math.max(high, value); });
    // A form that treats all cells alike has nothing to point at: all of them glow a little.
    const strength = Float32Array.from(numbers, (value) => (high > low ? (value - low) / (high - low) : EVEN_STRENGTH));
    return { strength, width, height, x: raster.x_range_m, y: raster.y_range_m };
  }

  function onBird(g, attention, place) {
    const canvas = document.createElement("canvas");
    canvas.width = attention.width; canvas.height = attention.height;
    const small = canvas.getContext("2d"), pixels = small.createImageData(attention.width, attention.height);
    attention.strength.forEach((value, k) => {
      pixels.data.set(GLOW, 4 * k);
      pixels.data[4 * k + 3] = 255 * opacityOf(value);
    });
    small.putImageData(pixels, 0, 0);
    const [left, top] = place(attention.x[1], attention.y[1]), [right, bottom] = place(attention.x[0], attention.y[0]);
    g.imageSmoothingEnabled = false;
    g.drawImage(canvas, left, top, right - left, bottom - top);
  }

  // Each cell as a patch of flat ground (z = 0), far ones first; returns how many a camera sees.
  function onCamera(g, attention, camera, toPixelOfGround) {
    const { strength, width, height, x, y } = attention;
    const corners = new Array((width + 1) * (height + 1));
    for (let i = 0; i <= height; i += 1) {
      for (let j = 0; j <= width; j += 1) {
        corners[i * (width + 1) + j] = toPixelOfGround(x[1] - (i * (x[1] - x[0])) / height, y[1] - (j * (y[1] - y[0])) / width);
      }
    }
    let seen = 0;
    for (let i = 0; i < height; i += 1) {
      for (let j = 0; j < width; j += 1) {
        const value = strength[i * width + j], first = i * (width + 1) + j;
        if (value < MIN_DRAWN) continue;
        const outline = [corners[first], corners[first + 1], corners[first + width + 2], corners[first + width + 1]];
        if (!outline.every(Boolean)) continue;
        if (outline.every(([u]) => u < 0) || outline.every(([u]) => u > camera.width) || outline.every(([, v]) => v > camera.height)) continue;
        g.beginPath();
        outline.forEach(([u, v], k) => (k ? g.lineTo(u, v) : g.moveTo(u, v)));
        g.fillStyle = `rgba(${GLOW.join()},${opacityOf(value).toFixed(3)})`;
        g.fill();
        seen += 1;
      }
    }
    return seen;
  }

  return { of, onBird, onCamera };
}
