"use strict";

const told = JSON.parse(document.getElementById("config").textContent);
const part = (id) => document.getElementById(id);
const REVIEWED = { accepted: "#2166ac", rejected: "#878787" };
// ColorBrewer's Dark2, for classes.
const PALETTE = ["#d95f02", "#7570b3", "#1b9e77", "#e7298a", "#66a61e", "#e6ab02", "#a6761d", "#666666"];
const BINS = 40;
const DRAWN = ["objects-fill", "objects-line"];
// Farther out a house is smaller than its outline would be wide.
const OUTLINES_FROM = Math.max(told.zoom - 3, 0);
const OBJECTS = told.served ? { source: "objects", sourceLayer: "objects" } : { source: "objects" };

let index = { id: [], confidence: [], review: [] };
let byConfidence = [];
let rowOf = new Map();
let chosen = null;
let plain = null;

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

function style(withObjects) {
  const sources = { scene: sceneSource() };
  const layers = [{ id: "scene", type: "raster", source: "scene", paint: { "raster-fade-duration": 0 } }];
  if (withObjects) {
    const selected = ["boolean", ["feature-state", "selected"], false];
    const rejected = ["==", ["coalesce", ["feature-state", "review"], ""], "rejected"];
    const place = told.served ? { source: "objects", "source-layer": "objects" } : { source: "objects" };
    sources.objects = objectsSource();
    layers.push(
      { id: "objects-fill", type: "fill", ...place, paint: { "fill-color": colour(), "fill-opacity": ["case", rejected, 0.1, selected, 0.1, 0.4], "fill-antialias": false } },
      { id: "objects-line", type: "line", ...place, minzoom: OUTLINES_FROM, paint: { "line-color": ["case", selected, "#ffffff", colour()], "line-width": ["case", selected, 4, 1.5] } },
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

function firstAtLeast(least) {
  let low = 0, high = byConfidence.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((index.confidence[byConfidence[middle]] ?? 0) < least) low = middle + 1; else high = middle;
  }
  return low;
}

function showCount() {
  const least = threshold();
  const shown = byConfidence.length - firstAtLeast(least);
  part("count").textContent = `${shown} of ${byConfidence.length} objects at ${least.toFixed(2)} and more`;
}

let filtering = false;
function applyThreshold() {
  showCount();
  if (filtering) return;
  filtering = true;
  requestAnimationFrame(() => {
    filtering = false;
    const least = threshold();
    for (const layer of DRAWN) map.setFilter(layer, least > 0 ? [">=", ["coalesce", ["get", "confidence"], 0], least] : null);
  });
}

function showHistogram() {
  const counts = new Array(BINS).fill(0);
  for (const value of index.confidence) counts[Math.min(Math.floor((value ?? 0) * BINS), BINS - 1)] += 1;
  const most = Math.max(...counts, 1);
  counts.forEach((count, bin) => {
    const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    const high = 30 * count / most;
    const middle = (bin + 0.5) / BINS;
    const step = told.colours.findLastIndex(([low], place) => place === 0 || middle >= low);
    for (const [name, value] of [["x", bin * 100 / BINS], ["y", 30 - high], ["width", 100 / BINS - 0.4], ["height", high], ["fill", told.colours[step][1]]]) bar.setAttribute(name, value);
    part("histogram").append(bar);
  });
}

function showLegend() {
  const steps = told.colours.map(([low, shade], place) => [shade, place === 0 ? `below ${told.colours[1][0]}` : `${low} and more`]);
  const classes = told.classes.map((name, place) => [PALETTE[place % PALETTE.length], name]);
  const lines = [...(part("colouring").value === "class" ? classes : steps), [REVIEWED.accepted, "accepted"], [REVIEWED.rejected, "rejected"]];
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
  map.setPaintProperty("objects-line", "line-color", ["case", ["boolean", ["feature-state", "selected"], false], "#ffffff", colour()]);
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
  for (const name of ["accept", "reject", "undo"]) part(name).disabled = id === null || !told.served;
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

function next() {
  const start = firstAtLeast(threshold());
  const queue = byConfidence.slice(start);
  const after = chosen === null ? -1 : queue.indexOf(rowOf.get(chosen));
  const open = (row) => !index.review[row];
  const row = queue.slice(after + 1).find(open) ?? queue.find(open);
  if (row === undefined) {
    part("problem").textContent = "Every object shown has been reviewed.";
    return choose(null);
  }
  const box = [[index.west[row], index.south[row]], [index.east[row], index.north[row]]];
  map.fitBounds(box, { padding: 120, maxZoom: told.zoom, duration: 0 });
  return choose(index.id[row]);
}

async function decide(review) {
  if (chosen === null || !told.served) return;
  const id = chosen;
  part("problem").textContent = "";
  try {
    const answer = await fetch("review", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ id, review }),
    });
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.error);
  } catch (error) {
    part("problem").textContent = error.message;
    return;
  }
  index.review[rowOf.get(id)] = review;
  mark(id, { review });
  showReviewed();
  if (review === null) await showAttributes(id); else await next();
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
part("filter").hidden = !told.confidence;
part("colouring").hidden = told.classes.length < 2;
if (!told.confidence) part("colouring").value = "class";
showLegend();
part("threshold").addEventListener("input", applyThreshold);
part("colouring").addEventListener("change", recolour);
part("outlines").addEventListener("change", () => map.setLayerZoomRange("objects-fill", 0, part("outlines").checked ? OUTLINES_FROM : 24));
part("compare").addEventListener("change", showSwipe);
part("next").addEventListener("click", next);
part("accept").addEventListener("click", () => decide("accepted"));
part("reject").addEventListener("click", () => decide("rejected"));
part("undo").addEventListener("click", () => decide(null));
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const act = { n: next, a: () => decide("accepted"), r: () => decide("rejected"), u: () => decide(null) }[event.key];
  if (act) act();
});

async function readIndex() {
  index = told.served ? await (await fetch("index")).json() : told.index;
  rowOf = new Map(index.id.map((id, row) => [id, row]));
  byConfidence = index.id.map((_, row) => row).sort((a, b) => (index.confidence[a] ?? 0) - (index.confidence[b] ?? 0));
  showHistogram();
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
