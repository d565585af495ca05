"use strict";

const told = JSON.parse(document.getElementById("config").textContent);
const part = (id) => document.getElementById(id);
const REVIEWED = { accepted: "#2166ac", rejected: "#878787" };
// ColorBrewer's Dark2, for classes.
const PALETTE = ["#d95f02", "#7570b3", "#1b9e77", "#e7298a", "#66a61e", "#e6ab02", "#a6761d", "#666666"];
const BINS = 40;
const DRAWN = ["objects-fill", "objects-casing", "objects-line"];
// Farther out a house is smaller than its outline would be wide.
const OUTLINES_FROM = Math.max(told.zoom - 3, 0);
const SELECTED = ["boolean", ["feature-state", "selected"], false];
const OBJECTS = told.served ? { source: "objects", sourceLayer: "objects" } : { source: "objects" };

let index = { id: [], confidence: [], review: [] };
let byConfidence = [];
let rowOf = new Map();
let least = 0; // where the slider, the histogram and the legend begin
let chosen = null;
let plain = null;
const decided = []; // what to undo: objects, and their review before

// Sources and layers

function here(path) { return new URL(path, document.baseURI).href.replaceAll("%7B", "{").replaceAll("%7D", "}"); }

function sceneSource() {
  if (told.served) {
    return { type: "raster", tiles: [here("image/{z}/{x}/{y}")], tileSize: 512, maxzoom: told.zoom, bounds: told.bounds };
  }
  const [west, south, east, north] = told.bounds;
  return { type: "image", url: told.image, coordinates: [[west, north], [east, north], [east, south], [west, south]] };
}

function objectsSource() {
  if (told.served) return { type: "vector", tiles: [here("objects/{z}/{x}/{y}")], maxzoom: told.zoom };
  return { type: "geojson", data: told.objects, maxzoom: 22, tolerance: 0.1 };
}

function colour() {
  const by = part("colouring").value;
  const plainColour = by === "class"
    ? ["match", ["get", "class"], ...told.classes.flatMap((name, place) => [name, PALETTE[place % PALETTE.length]]), "#666666"]
    : ["step", ["coalesce", ["get", "confidence"], 0], told.colours[0][1], ...told.colours.slice(1).flat()];
  return ["match", ["coalesce", ["feature-state", "review"], ""], "accepted", REVIEWED.accepted, "rejected", REVIEWED.rejected, plainColour];
}

function lineColour() { return ["case", SELECTED, "#ffffff", colour()]; }

// Lines thin out where houses are small.
function widening(far, near) { return ["interpolate", ["linear"], ["zoom"], OUTLINES_FROM, far, OUTLINES_FROM + 2, near]; }

function style(withObjects) {
  const sources = { scene: sceneSource() };
  const layers = [{ id: "scene", type: "raster", source: "scene", paint: { "raster-fade-duration": 0 } }];
  if (withObjects) {
    const rejected = ["==", ["coalesce", ["feature-state", "review"], ""], "rejected"];
    const place = told.served ? { source: "objects", "source-layer": "objects" } : { source: "objects" };
    sources.objects = objectsSource();
    layers.push(
      { id: "objects-fill", type: "fill", ...place, paint: { "fill-color": colour(), "fill-opacity": ["case", rejected, 0.1, SELECTED, 0.1, 0.4], "fill-antialias": false } },
      // White beside each line, or green lines would be lost on green fields.
      { id: "objects-casing", type: "line", ...place, minzoom: OUTLINES_FROM, paint: { "line-color": ["case", SELECTED, "#000000", "#ffffff"], "line-opacity": 0.85, "line-width": widening(["case", SELECTED, 6, 2], ["case", SELECTED, 8, 4]) } },
      { id: "objects-line", type: "line", ...place, minzoom: OUTLINES_FROM, paint: { "line-color": lineColour(), "line-width": widening(["case", SELECTED, 3, 1], ["case", SELECTED, 4, 2]) } },
    );
  }
  return { version: 8, sources, layers };
}

function makeMap(container, withObjects) {
  return new maplibregl.Map({
    container, style: style(withObjects), bounds: told.bounds, fitBoundsOptions: { padding: 20 },
    maxZoom: 24, attributionControl: false, renderWorldCopies: false, dragRotate: false,
    pitchWithRotate: false, touchPitch: false, fadeDuration: 0, interactive: withObjects,
  });
}

// What is shown

function threshold() { return Number(part("threshold").value); }

// Objects without a confidence are shown where the slider hides nothing.
function firstShown() {
  if (threshold() <= least) return 0;
  let low = 0, high = byConfidence.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((index.confidence[byConfidence[middle]] ?? 0) < threshold()) low = middle + 1; else high = middle;
  }
  return low;
}

function showCount() {
  const all = byConfidence.length;
  part("count").textContent = `${all - firstShown()} of ${all} objects from ${threshold().toFixed(2)}`;
}

// The slider begins at the lowest confidence, or a twentieth below it.
function placeSlider() {
  const known = index.confidence.filter((value) => value !== null);
  part("filter").hidden = known.length === 0;
  least = Math.min(known.reduce((low, value) => Math.min(low, value), 1), 0.95);
  least = Math.max(Math.floor(least * 20 + 1e-9) / 20, 0);
  part("threshold").min = part("threshold").value = least;
}

let filtering = false;
function applyThreshold() {
  showCount();
  if (filtering) return;
  filtering = true;
  requestAnimationFrame(() => {
    filtering = false;
    const low = threshold();
    for (const layer of DRAWN) map.setFilter(layer, low > least ? [">=", ["coalesce", ["get", "confidence"], 0], low] : null);
  });
}

function stepOf(value) { return told.colours.findLastIndex(([low], place) => place === 0 || value >= low); }

function showHistogram() {
  const counts = new Array(BINS).fill(0), width = (1 - least) / BINS;
  for (const value of index.confidence) {
    if (value !== null) counts[Math.min(Math.max(Math.floor((value - least) / width), 0), BINS - 1)] += 1;
  }
  const most = Math.max(...counts, 1);
  counts.forEach((count, bin) => {
    const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    const high = 30 * count / most;
    const shade = told.colours[stepOf(least + (bin + 0.5) * width)][1];
    for (const [name, value] of [["x", bin * 100 / BINS], ["y", 30 - high], ["width", 100 / BINS - 0.4], ["height", high], ["fill", shade]]) bar.setAttribute(name, value);
    part("histogram").append(bar);
  });
}

// Of the steps of confidence, only those from the first to the last that occurs.
function confidenceLegend() {
  const found = index.confidence.filter((value) => value !== null).map(stepOf);
  const first = found.reduce((low, step) => Math.min(low, step), told.colours.length);
  const last = found.reduce((high, step) => Math.max(high, step), -1);
  return told.colours
    .map(([low, shade], step) => [shade, step === 0 ? `below ${told.colours[1][0]}` : `${low} and more`])
    .filter((_, step) => first <= step && step <= last);
}

function showLegend() {
  const classes = told.classes.map((name, place) => [PALETTE[place % PALETTE.length], name]);
  const lines = [...(part("colouring").value === "class" ? classes : confidenceLegend()), [REVIEWED.accepted, "accepted"], [REVIEWED.rejected, "rejected"]];
  part("legend").replaceChildren(...lines.map(([shade, text]) => {
    const line = document.createElement("li"), sample = document.createElement("i");
    sample.style.borderColor = shade;
    sample.style.background = shade + "66";
    line.append(sample, text);
    return line;
  }));
}

function recolour() {
  showLegend();
  map.setPaintProperty("objects-fill", "fill-color", colour());
  map.setPaintProperty("objects-line", "line-color", lineColour());
}

// One object

function mark(id, state) { map.setFeatureState({ ...OBJECTS, id }, state); }

async function attributesOf(id) {
  if (!told.served) return told.objects.features[rowOf.get(id)].properties;
  const answer = await fetch(`object/${id}`);
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error);
  return body;
}

async function choose(id) {
  if (chosen !== null) mark(chosen, { selected: false });
  chosen = id;
  part("details").hidden = id === null;
  for (const name of ["accept", "reject"]) part(name).disabled = id === null || !told.served;
  if (id === null) return;
  mark(id, { selected: true });
  await showAttributes(id);
}

async function showAttributes(id) {
  try {
    const values = await attributesOf(id);
    if (chosen !== id) return;
    part("attributes").replaceChildren(...Object.entries(values).map(([name, value]) => {
      const row = document.createElement("tr");
      for (const text of [name, typeof value === "number" && !Number.isInteger(value) ? value.toFixed(3) : value ?? ""]) {
        row.insertCell().textContent = text;
      }
      return row;
    }));
  } catch (error) {
    part("problem").textContent = error.message;
  }
}

// Review

function showReviewed() {
  const done = { accepted: 0, rejected: 0 };
  for (const each of index.review) if (each) done[each] += 1;
  const left = index.id.length - done.accepted - done.rejected;
  part("reviewed").textContent = `${done.accepted} accepted, ${done.rejected} rejected, ${left} to go`;
}

function goTo(row) {
  if (index.west[row] !== null) {
    const box = [[index.west[row], index.south[row]], [index.east[row], index.north[row]]];
    map.fitBounds(box, { padding: 120, maxZoom: told.zoom, duration: 0 });
  }
  return choose(index.id[row]);
}

function next() {
  const queue = byConfidence.slice(firstShown());
  const after = chosen === null ? -1 : queue.indexOf(rowOf.get(chosen));
  const open = (row) => !index.review[row];
  const row = queue.slice(after + 1).find(open) ?? queue.find(open);
  if (row !== undefined) return goTo(row);
  part("problem").textContent = "Every object shown has been reviewed.";
  return choose(null);
}

async function keep(id, review) {
  part("problem").textContent = "";
  try {
    const answer = await fetch("review", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ id, review }),
    });
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.error);
  } catch (error) {
    part("problem").textContent = error.message;
    return false;
  }
  index.review[rowOf.get(id)] = review;
  mark(id, { review });
  showReviewed();
  return true;
}

async function decide(review) {
  if (chosen === null || !told.served) return;
  const id = chosen, before = index.review[rowOf.get(id)];
  if (!await keep(id, review)) return;
  decided.push({ id, before });
  part("undo").disabled = false;
  await next();
}

async function undo() {
  if (decided.length === 0) return;
  const { id, before } = decided.at(-1);
  if (!await keep(id, before)) return;
  decided.pop();
  part("undo").disabled = decided.length === 0;
  await goTo(rowOf.get(id));
}

// Swipe

function placeSwipe(share) {
  const at = Math.min(Math.max(share, 0), 1) * 100;
  part("swipe").style.left = `${at}%`;
  part("swipe").setAttribute("aria-valuenow", at.toFixed(0));
  part("plain").style.clipPath = `inset(0 ${100 - at}% 0 0)`;
}

function follow() { plain.jumpTo({ center: map.getCenter(), zoom: map.getZoom() }); }

function showSwipe() {
  const on = part("compare").checked;
  part("plain").hidden = part("swipe").hidden = !on;
  if (!on) {
    map.off("move", follow);
    return;
  }
  plain ??= makeMap("plain", false);
  plain.resize();
  follow();
  map.on("move", follow);
  placeSwipe(0.5);
}

part("swipe").addEventListener("pointerdown", (event) => part("swipe").setPointerCapture(event.pointerId));
part("swipe").addEventListener("pointermove", (event) => {
  if (event.buttons === 0) return;
  const stage = part("stage").getBoundingClientRect();
  placeSwipe((event.clientX - stage.left) / stage.width);
});
part("swipe").addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -0.05, ArrowRight: 0.05 }[event.key];
  if (step) placeSwipe(parseFloat(part("swipe").style.left) / 100 + step);
});

// Start

const map = makeMap("map", true);
map.keyboard.disableRotation();
map.touchZoomRotate.disableRotation();
map.addControl(new maplibregl.NavigationControl({ showCompass: false }), "top-left");
map.addControl(new maplibregl.ScaleControl({ maxWidth: 150 }), "bottom-left");
map.on("click", (event) => {
  const [found] = map.queryRenderedFeatures(event.point, { layers: DRAWN });
  choose(found ? found.id : null);
});
map.on("error", (event) => { part("problem").textContent = event.error.message; });

part("title").textContent = told.scene;
document.title = `${told.file} on ${told.scene}`;
part("file").textContent = told.file;
part("colouring").hidden = told.classes.length < 2;
if (!told.confidence) part("colouring").value = "class";
part("threshold").addEventListener("input", applyThreshold);
part("colouring").addEventListener("change", recolour);
part("outlines").addEventListener("change", () => map.setLayerZoomRange("objects-fill", 0, part("outlines").checked ? OUTLINES_FROM : 24));
part("compare").addEventListener("change", showSwipe);
part("next").addEventListener("click", next);
part("accept").addEventListener("click", () => decide("accepted"));
part("reject").addEventListener("click", () => decide("rejected"));
part("undo").addEventListener("click", undo);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const act = { n: next, a: () => decide("accepted"), r: () => decide("rejected"), u: undo }[event.key];
  if (act && !event.repeat) act();
});

async function readIndex() {
  index = told.served ? await (await fetch("index")).json() : told.index;
  rowOf = new Map(index.id.map((id, row) => [id, row]));
  byConfidence = index.id.map((_, row) => row).sort((a, b) => (index.confidence[a] ?? 0) - (index.confidence[b] ?? 0));
  placeSlider();
  showHistogram();
  showLegend();
  applyThreshold();
  showReviewed();
  index.review.forEach((review, row) => { if (review) mark(index.id[row], { review }); });
}

map.once("load", () => readIndex().catch((error) => { part("problem").textContent = error.message; }));
map.on("sourcedata", function note(event) {
  if (event.sourceId !== "scene" || !map.isSourceLoaded("scene")) return;
  map.off("sourcedata", note);
  performance.mark("geohr-scene");
});
map.once("idle", () => {
  performance.mark("geohr-drawn");
  document.body.dataset.drawn = "yes";
});
