"use strict";
// What lies under the boxes: map or occupancy from above. Both come as grey PNGs of numbers, which are coloured here.
// The top row of a picture is the far end ahead, its left column the left end.
const decodedNumbers = new Map();

async function numbersOf(png) {
  if (!decodedNumbers.has(png)) {
    const image = new Image();
    image.src = "data:image/png;base64," + png;
    decodedNumbers.set(png, image.decode().then(() => {
      const canvas = document.createElement("canvas");
      canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
      const g = canvas.getContext("2d", { willReadFrequently: true });
      g.drawImage(image, 0, 0);
      const { data, width, height } = g.getImageData(0, 0, canvas.width, canvas.height);
      return { numbers: Uint8Array.from({ length: width * height }, (_, k) => data[4 * k]), width, height };
    }));
    if (decodedNumbers.size > 24) decodedNumbers.delete(decodedNumbers.keys().next().value);
  }
  return decodedNumbers.get(png);
}

const GROUND_TITLES = { map: "map", occupancy: "occupancy" };

function groundLayer(kinds, frames, redraw) {
  const byId = (id) => document.getElementById(id);
  const tasks = Object.keys(kinds).filter((task) => frames.some((frame) => (frame.rasters || {})[task]));
  const state = { task: tasks[0] || "", whose: "prediction", hidden: {} };
  tasks.forEach((task) => { state.hidden[task] = new Set(); });

  // Number -> colour. A number of the map is a set of bits, one for each class: the last visible class in the order of
  // drawing is seen. A number of the occupancy is a class.
  function colourTable(task) {
    const { classes, order, free } = kinds[task], hidden = state.hidden[task], table = new Array(256).fill(null);
    for (let value = 0; value < 256; value += 1) {
      if (order) {
        const seen = order.filter((k) => (value >> k) & 1 && !hidden.has(k));
        if (seen.length) table[value] = classes[seen[seen.length - 1]].rgb;
      } else if (value !== free && classes[value] && !hidden.has(value)) table[value] = classes[value].rgb;
    }
    return table;
  }

  // The chosen picture of a frame, ready to draw: {canvas, x, y, cells, title}; null where there is none.
  async function pictureOf(frame, row) {
    const raster = (((frame.rasters || {})[state.task]) || {})[state.whose === "truth" ? "truth" : row];
    if (!raster) { showPresent(new Set()); return null; }
    const { numbers, width, height } = await numbersOf(raster.png), table = colourTable(state.task);
    const canvas = document.createElement("canvas");
    canvas.width = width; canvas.height = height;
    const g = canvas.getContext("2d"), pixels = g.createImageData(width, height), present = new Set();
    let cells = 0;
    numbers.forEach((value, k) => {
      present.add(value);
      const colour = table[value];
      if (!colour) return;
      cells += 1;
      pixels.data.set(colour, 4 * k);
      pixels.data[4 * k + 3] = 255;
    });
    g.putImageData(pixels, 0, 0);
    showPresent(present);
    const title = `${GROUND_TITLES[state.task]}, ${state.whose}` + (state.whose === "truth" ? "" : ` (${row})`);
    return { canvas, x: raster.x_range_m, y: raster.y_range_m, cells, title };
  }

  // ------------------------------------------------------------ controls
  function showPresent(numbers) {
    const isMap = state.task && kinds[state.task].order;
    const isThere = (k) => (isMap ? [...numbers].some((value) => (value >> k) & 1) : numbers.has(k));
    document.querySelectorAll("#ground-legend button").forEach((button) => {
      button.classList.toggle("absent", !isThere(Number(button.dataset.kind)));
    });
  }

  function fillLegend() {
    const { classes, free } = state.task ? kinds[state.task] : { classes: [] };
    byId("ground-legend").replaceChildren(...classes.map((item, k) => {
      const button = document.createElement("button"), dot = document.createElement("i");
      dot.className = "dot"; dot.style.background = `rgb(${item.rgb.join()})`;
      button.type = "button"; button.dataset.kind = k; button.append(dot, item.name);
      button.setAttribute("aria-pressed", !state.hidden[state.task].has(k));
      button.addEventListener("click", () => {
        const hidden = state.hidden[state.task], isHidden = hidden.has(k);
        if (isHidden) hidden.delete(k); else hidden.add(k);
        button.setAttribute("aria-pressed", isHidden);
        redraw();
      });
      return k === free ? null : button;
    }).filter(Boolean));
  }

  function choose(task, whose) {
    state.task = task; state.whose = whose;
    byId("ground").value = task;
    document.querySelectorAll("#ground-whose button").forEach((button) => {
      button.setAttribute("aria-pressed", button.value === whose);
      button.disabled = !task;
    });
    fillLegend();
    redraw();
  }

  byId("ground-choice").hidden = byId("ground-legend").hidden = tasks.length === 0;
  byId("ground").replaceChildren(...tasks.map((task) => new Option(GROUND_TITLES[task], task)), new Option("nothing", ""));
  byId("ground").addEventListener("change", (event) => choose(event.target.value, state.whose));
  document.querySelectorAll("#ground-whose button").forEach((button) => {
    button.addEventListener("click", () => choose(state.task, button.value));
  });
  return {
    pictureOf,
    start: () => choose(state.task, state.whose),
    swap: () => choose(state.task, state.whose === "truth" ? "prediction" : "truth"),
    next: () => { const all = [...tasks, ""]; choose(all[(all.indexOf(state.task) + 1) % all.length], state.whose); },
  };
}
