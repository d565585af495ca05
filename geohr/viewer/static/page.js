"use strict";

const told = JSON.parse(document.getElementById("config").textContent);
const part = (id) => document.getElementById(id);
const REVIEWED = { accepted: "#2166ac", rejected: "#878787" };
// ColorBrewer's Dark2, for classes.
const PALETTE = ["#d95f02", "#7570b3", "#1b9e77", "#e7298a", "#66a61e", "#e6ab02", "#a6761d", "#666666"];
const BINS = 40;
const DRAWN = ["objects-fill", "objects-casing", "objects-line"];
// By mode, what a key does; `all` holds in every mode.
const keys = { all: {}, review: {}, label: {}, check: {} };
// By mode, what is done when it begins and when it ends.
const entering = {}, leaving = {};
// Farther out a house is smaller than its outline would be wide.
const OUTLINES_FROM = Math.max(told.zoom - 3, 0);
const SELECTED = ["boolean", ["feature-state", "selected"], false];
const OBJECTS = told.served ? { source: "objects", sourceLayer: "objects" } : { source: "objects" };

let index = { id: [], confidence: [], review: [] };
let byConfidence = [];
let rowOf = new Map();
let least = 0; // where the slider, the histogram and the legend begin
let chosen = null;
let mode = "review";
const decided = []; // what to undo: objects, and their review before

// Sources and layers

function here(path) { return new URL(path, document.baseURI).href.replaceAll("%7B", "{").replaceAll("%7D", "}"); }

function rasterSource(path, { zoom, bounds }) {
  return { type: "raster", tiles: [here(`${path}/{z}/{x}/{y}`)], tileSize: 512, maxzoom: zoom, bounds };
}

function sceneSource() {
  if (told.served) return rasterSource("image", told);
  const [west, south, east, north] = told.bounds;
  return { type: "image", url: told.image, coordinates: [[west, north], [east, north], [east, south], [west, south]] };
}

function objectsSource() {
  if (told.served) return { type: "vector", tiles: [here("objects/{z}/{x}/{y}")], maxzoom: told.zoom };
  return { type: "geojson", data: told.objects, maxzoom: 22, tolerance: 0.1 };
}

function kindColour(name) {
  return told.kindColours[name] ?? PALETTE[Math.max(Object.keys(told.kinds).indexOf(name), 0) % PALETTE.length];
}

// A colour by kind; `match` takes at least one pair.
function byKind(names) { return ["match", ["get", "class"], ...[...names, ""].flatMap((name) => [name, kindColour(name)]), "#666666"]; }

function colour() {
  const plainColour = part("colouring").value === "class"
    ? byKind(Object.keys(told.kinds))
    : ["step", ["coalesce", ["get", "confidence"], 0], told.colours[0][1], ...told.colours.slice(1).flat()];
  return ["match", ["coalesce", ["feature-state", "review"], ""], "accepted", REVIEWED.accepted, "rejected", REVIEWED.rejected, plainColour];
}

// Near by, fills may be left away; they are there all the same, so that a click finds its object.
function fillOpacity(outlinesOnly) {
  const rejected = ["==", ["coalesce", ["feature-state", "review"], ""], "rejected"];
  // What did not change only veils the image.
  const same = ["==", ["get", "class"], told.before ? "same" : ""];
  const filled = ["case", rejected, 0.1, SELECTED, 0.1, same, 0, 0.4];
  return outlinesOnly ? ["step", ["zoom"], filled, OUTLINES_FROM, 0] : filled;
}

function lineColour() { return ["case", SELECTED, "#ffffff", colour()]; }

// Lines thin out where houses are small.
function widening(far, near) { return ["interpolate", ["linear"], ["zoom"], OUTLINES_FROM, far, OUTLINES_FROM + 2, near]; }

function style(scene, withObjects) {
  const sources = { scene };
  const layers = [{ id: "scene", type: "raster", source: "scene", paint: { "raster-fade-duration": 0 } }];
  if (withObjects) {
    const place = told.served ? { source: "objects", "source-layer": "objects" } : { source: "objects" };
    sources.objects = objectsSource();
    layers.push(
      { id: "objects-fill", type: "fill", ...place, paint: { "fill-color": colour(), "fill-opacity": fillOpacity(false), "fill-antialias": false } },
      // White beside each line, or green lines would be lost on green fields.
      { id: "objects-casing", type: "line", ...place, minzoom: OUTLINES_FROM, paint: { "line-color": ["case", SELECTED, "#000000", "#ffffff"], "line-opacity": 0.85, "line-width": widening(["case", SELECTED, 6, 2], ["case", SELECTED, 8, 4]) } },
      { id: "objects-line", type: "line", ...place, minzoom: OUTLINES_FROM, paint: { "line-color": lineColour(), "line-width": widening(["case", SELECTED, 3, 1], ["case", SELECTED, 4, 2]) } },
    );
  }
  return { version: 8, sources, layers };
}

function makeMap(container, scene, { withObjects, interactive }) {
  return new maplibregl.Map({
    container, style: style(scene, withObjects), bounds: told.bounds, fitBoundsOptions: { padding: 20 },
    maxZoom: 24, attributionControl: false, renderWorldCopies: false, dragRotate: false,
    pitchWithRotate: false, touchPitch: false, fadeDuration: 0, interactive,
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
    const filter = low > least ? [">=", ["coalesce", ["get", "confidence"], 0], low] : null;
    for (const each of mapsWithObjects()) for (const layer of DRAWN) each.setFilter(layer, filter);
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
  const classes = Object.entries(told.kinds).map(([name, count]) => [kindColour(name), told.kind === "class" ? name : `${name}: ${count}`]);
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
  for (const each of mapsWithObjects()) {
    each.setPaintProperty("objects-fill", "fill-color", colour());
    each.setPaintProperty("objects-line", "line-color", lineColour());
  }
}

// While labels are drawn or places judged, what is inside an outline must be seen, and the map's own
// objects stay in the background.
function showOutlines() {
  const working = mode !== "review";
  for (const each of mapsWithObjects()) {
    each.setPaintProperty("objects-fill", "fill-opacity", fillOpacity(part("outlines").checked || working));
    each.setPaintProperty("objects-line", "line-color", working ? ["case", SELECTED, "#ffea00", "#ffffff"] : lineColour());
    each.setPaintProperty("objects-casing", "line-color", working ? "#000000" : ["case", SELECTED, "#000000", "#ffffff"]);
    each.setPaintProperty("objects-casing", "line-opacity", working ? 0.4 : 0.85);
  }
}

// One object

function mark(id, state) { for (const each of mapsWithObjects()) each.setFeatureState({ ...OBJECTS, id }, state); }

// What the server answers to a question, or to what is sent; a refusal has its status.
async function ask(path, sent) {
  const how = sent === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(sent) };
  const answer = await fetch(path, how);
  const body = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(body.error), { status: answer.status });
  return body;
}

function say(text) { part("problem").textContent = text; }

async function attributesOf(id) {
  return told.served ? ask(`object/${id}`) : told.objects.features[rowOf.get(id)].properties;
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
    say(error.message);
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
  say("Every object shown has been reviewed.");
  return choose(null);
}

async function keep(id, review) {
  say("");
  try {
    await ask("review", { id, review });
  } catch (error) {
    say(error.message);
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

// Modes and keys

function setMode(name) {
  if (name === mode || !told.served || (name === "check" && !told.check)) return;
  leaving[mode]?.();
  say("");
  mode = document.body.dataset.mode = name;
  for (const tab of part("modes").children) tab.setAttribute("aria-selected", tab.dataset.to === name);
  showOutlines();
  entering[mode]?.();
}

Object.assign(keys.all, {
  1: () => setMode("review"), 2: () => setMode("label"), 3: () => setMode("check"),
  o: () => part("outlines").click(),
  "+": () => map.zoomIn(), "=": () => map.zoomIn(), "-": () => map.zoomOut(),
});
Object.assign(keys.review, {
  n: next, a: () => decide("accepted"), r: () => decide("rejected"), u: undo,
  ArrowLeft: () => map.panBy([-100, 0]), ArrowRight: () => map.panBy([100, 0]),
  ArrowUp: () => map.panBy([0, -100]), ArrowDown: () => map.panBy([0, 100]),
});
const REPEATED = /^(Arrow.*|[-+=])$/;

document.addEventListener("keydown", (event) => {
  if (event.altKey || event.target.closest("input, select, #swipe")) return;
  // Ctrl works for undo and redo alone, so that the browser keeps its own keys.
  const undoing = { z: "u", Z: "U", y: "U" }[event.key];
  if ((event.ctrlKey || event.metaKey) && !undoing) return;
  const key = event.ctrlKey || event.metaKey ? undoing : event.key;
  if (event.target.closest("button") && (key === " " || key === "Enter")) return;
  const act = keys[mode][key] ?? keys.all[key];
  if (!act || (event.repeat && !REPEATED.test(key))) return;
  event.preventDefault();
  act(event);
});
// Keys go to the map after a click on a button, too.
document.addEventListener("click", (event) => { if (event.detail > 0) event.target.closest("button")?.blur(); });

// Start

part("colouring").hidden = Object.keys(told.kinds).length < 2;
if (!told.confidence || told.kind !== "class") part("colouring").value = "class";
const map = makeMap("map", sceneSource(), { withObjects: true, interactive: true });
map.keyboard.disable();
map.touchZoomRotate.disableRotation();
map.addControl(new maplibregl.NavigationControl({ showCompass: false }), "top-left");
map.addControl(new maplibregl.ScaleControl({ maxWidth: 150 }), "bottom-left");
map.on("click", (event) => {
  if (mode !== "review") return;
  const [found] = map.queryRenderedFeatures(event.point, { layers: DRAWN });
  choose(found ? found.id : null);
});
map.on("error", (event) => say(event.error.message));

part("title").textContent = told.scene;
document.title = `${told.file} on ${told.scene}`;
part("file").textContent = told.file;
part("modes").hidden = part("keys").hidden = !told.served;
part("modes").children[0].setAttribute("aria-selected", true);
part("modes").children[2].hidden = !told.check;
for (const tab of part("modes").children) tab.addEventListener("click", () => setMode(tab.dataset.to));
part("threshold").addEventListener("input", applyThreshold);
part("colouring").addEventListener("change", recolour);
part("outlines").addEventListener("change", showOutlines);
part("next").addEventListener("click", next);
part("accept").addEventListener("click", () => decide("accepted"));
part("reject").addEventListener("click", () => decide("rejected"));
part("undo").addEventListener("click", undo);
async function readIndex() {
  index = told.served ? await ask("index") : told.index;
  rowOf = new Map(index.id.map((id, row) => [id, row]));
  byConfidence = index.id.map((_, row) => row).sort((a, b) => (index.confidence[a] ?? 0) - (index.confidence[b] ?? 0));
  placeSlider();
  showHistogram();
  showLegend();
  applyThreshold();
  showReviewed();
  index.review.forEach((review, row) => { if (review) mark(index.id[row], { review }); });
}

map.once("load", () => readIndex().catch((error) => say(error.message)));
map.on("sourcedata", function note(event) {
  if (event.sourceId !== "scene" || !map.isSourceLoaded("scene")) return;
  map.off("sourcedata", note);
  performance.mark("geohr-scene");
});
map.once("idle", () => {
  performance.mark("geohr-drawn");
  document.body.dataset.drawn = "yes";
});
