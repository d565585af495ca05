"use strict";

// Labels: outlines of objects, and areas in which no object is without one.

const LABELS = "labels", AREAS = "labelled";
const HINTS = {
  polygon: "Click the corners; click the first one again, or press Enter, to finish.",
  "angled-rectangle": "Click one corner, the next one, and then the far side.",
  rectangle: "Click two corners of an area in which every object is labelled.",
  linestring: "Click a line across the outline, from outside to outside, and press Enter.",
  static: "Click a label to change it, with Shift for several. Click an object of the map to copy it.",
  select: "Drag corners, or the middles between them; right click removes a corner.",
};
const TOOLS = { outline: "polygon", box: "angled-rectangle", area: "rectangle" };
const LEAST_PX = 6; // pixels within which a click belongs to a corner

const labelClasses = [...new Set([...(told.kind === "class" ? Object.keys(told.kinds) : []), ...told.labels.classes])];
if (labelClasses.length === 0) labelClasses.push("building");
const past = [], future = []; // edits that take back, and that do again
let counts = { [LABELS]: told.labels.count, [AREAS]: told.labels.areas };
let picked = { layer: LABELS, ids: [] }; // what is chosen
let edited = null; // the one label whose corners are shown, as the server knows it and as it is drawn

function labelColour(name) {
  const place = labelClasses.indexOf(name);
  return place <= 0 ? DRAWN_COLOUR : PALETTE[place % PALETTE.length];
}

function showKept() {
  const number = (count, one, more) => `${count} ${count === 1 ? one : more}`;
  part("kept").textContent = `${number(counts[LABELS], "label", "labels")}, ${number(counts[AREAS], "area", "areas")} labelled, in ${told.labels.file}`;
}

function showTools() {
  const kind = draw.getMode();
  for (const [name, its] of Object.entries(TOOLS)) part(name).setAttribute("aria-pressed", kind === its);
  part("split").setAttribute("aria-pressed", kind === "linestring");
  part("split").disabled = picked.layer !== LABELS || picked.ids.length !== 1;
  part("merge").disabled = picked.layer !== LABELS || picked.ids.length < 2;
  part("delete").disabled = picked.ids.length === 0;
  part("copy").disabled = chosen === null;
  part("take-back").disabled = past.length === 0 && !isDrawing();
  part("redo").disabled = future.length === 0;
  part("hint").textContent = HINTS[kind];
}

// Choosing

function markPicked(state) { for (const id of picked.ids) map.setFeatureState({ source: picked.layer, sourceLayer: "objects", id }, state); }

function unpick() {
  markPicked({ selected: false, edited: false });
  if (edited) drop(edited.drawn);
  edited = null;
  picked = { layer: LABELS, ids: [] };
}

async function pick(layer, ids) {
  unpick();
  await choose(null);
  picked = { layer, ids };
  markPicked({ selected: true });
  startDrawing("static", null);
  if (layer === LABELS && ids.length === 1) await showCorners(ids[0]);
  showTools();
}

async function showCorners(id) {
  try {
    const label = await ask(`drawn/${LABELS}/${id}`);
    if (picked.ids.length !== 1 || picked.ids[0] !== id || edited) return;
    const parts = label.geometry.type === "Polygon" ? [label.geometry.coordinates] : label.geometry.coordinates;
    if (label.properties.class) part("class").value = label.properties.class;
    if (parts.length > 1) { say("A label of several parts is moved by none of its corners; split it, or draw it again."); return; }
    // Terra Draw knows no holes; they are put back when the label is kept.
    const [outer, ...holes] = parts[0];
    const drawn = draw.getFeatureId();
    const geometry = { type: "Polygon", coordinates: [outer.map(([x, y]) => [round9(x), round9(y)])] };
    const [{ valid, reason }] = draw.addFeatures([{ id: drawn, type: "Feature", properties: { mode: "polygon" }, geometry }]);
    if (!valid) { say(reason); return; }
    edited = { label, holes, drawn };
    onFinish = reshaped;
    draw.selectFeature(drawn);
    markPicked({ edited: true });
  } catch (error) {
    say(error.message);
  }
}

function round9(value) { return Number(value.toFixed(9)); }

async function reshaped() {
  const { label, holes, drawn } = edited;
  const coordinates = [draw.getSnapshotFeature(drawn).geometry.coordinates[0], ...holes];
  await change({ layer: LABELS, put: [{ ...label, geometry: { type: "Polygon", coordinates } }], drop: [] });
}

function clickLabel(point, more) {
  if (mode !== "label" || !["static", "select"].includes(draw.getMode())) return;
  const box = [[point.x - LEAST_PX, point.y - LEAST_PX], [point.x + LEAST_PX, point.y + LEAST_PX]];
  const corners = edited && draw.getFeaturesAtLngLat(map.unproject(point), { pointerDistance: 2 * LEAST_PX, ignoreSelectFeatures: false });
  if (corners?.some((each) => each.geometry.type === "Point")) return;
  const [label] = map.queryRenderedFeatures(point, { layers: ["labels-fill"] });
  const [area] = label ? [] : map.queryRenderedFeatures(box, { layers: ["labelled-line"] });
  const found = label ?? area;
  if (!found) {
    const [object] = map.queryRenderedFeatures(point, { layers: DRAWN });
    pick(LABELS, []).then(() => choose(object ? object.id : null)).then(showTools);
    return;
  }
  const same = more && picked.layer === found.source ? picked.ids : [];
  const ids = same.includes(found.id) ? same.filter((id) => id !== found.id) : [...same, found.id];
  if (!more && picked.ids.length === 1 && picked.ids[0] === found.id && picked.layer === found.source) return;
  pick(found.source, ids);
}

// Changing

// Keep an edit, and what takes it back.
async function change(edit, { stack = past } = {}) {
  const answer = await keepEdit(edit);
  if (answer === null) return null;
  if (stack === past) future.length = 0;
  stack.push(answer.undo);
  showTools();
  await refresh(edit.layer);
  return answer;
}

onKept = (edit, answer) => {
  counts[edit.layer] = answer.count;
  showKept();
};

function startTool(kind, layer) {
  unpick();
  startDrawing(kind, async (id) => {
    const { geometry } = draw.getSnapshotFeature(id);
    const properties = layer === LABELS ? { class: part("class").value } : {};
    await change({ layer, put: [{ id: null, geometry, properties }], drop: [] });
    drop(id);
  });
  showTools();
}

function rest() {
  if (isDrawing()) { toMap("Escape"); return; }
  pick(LABELS, []);
}

async function startSplit() {
  if (part("split").disabled) return;
  const [id] = picked.ids;
  if (edited) drop(edited.drawn);
  edited = null;
  markPicked({ edited: false });
  startDrawing("linestring", async (drawn) => {
    const { geometry } = draw.getSnapshotFeature(drawn);
    await change({ layer: LABELS, split: id, line: geometry });
    drop(drawn);
    await pick(LABELS, []);
  });
  showTools();
}

async function merge() {
  if (part("merge").disabled) return;
  const { ids } = picked;
  unpick(); // so that the next key finds nothing that is about to go
  if (await change({ layer: LABELS, merge: ids })) await pick(LABELS, [ids[0]]);
}

async function remove() {
  if (part("delete").disabled) return;
  const { layer, ids } = picked;
  unpick();
  if (await change({ layer, put: [], drop: ids })) await pick(LABELS, []);
}

async function copy(ids) {
  if (ids.length === 0) return;
  const answer = await change({ layer: LABELS, copy: ids });
  if (answer?.ids.length === 0) say("There is a label already.");
  await choose(null);
  showTools();
}

function copyAll() {
  const bounds = map.getBounds();
  const inside = (row) => index.west[row] !== null && index.review[row] !== "rejected" && (index.confidence[row] ?? 1) >= threshold()
    && index.west[row] > bounds.getWest() && index.east[row] < bounds.getEast() && index.south[row] > bounds.getSouth() && index.north[row] < bounds.getNorth();
  copy(index.id.filter((_, row) => inside(row)));
}

async function takeBack(from, to) {
  if (isDrawing()) { if (from === past) draw.undo(); else draw.redo(); showDrawing(); return; }
  if (from.length === 0 || waiting.length) return;
  const tool = draw.getMode(), finished = onFinish;
  unpick();
  await change(from.pop(), { stack: to });
  if (Object.values(TOOLS).includes(tool)) startDrawing(tool, finished); else await pick(LABELS, []);
  showTools();
}

async function changeClass() {
  part("class").blur();
  if (!edited) return;
  edited.label.properties.class = part("class").value;
  await reshaped();
}

function nextClass() {
  part("class").selectedIndex = (part("class").selectedIndex + 1) % part("class").options.length;
  changeClass();
}

// Start

entering.label = () => {
  choose(null);
  for (const layer of [LABELS, AREAS]) showDrawn(layer, true);
  startDrawing("static", null);
  showKept();
  showTools();
};
leaving.label = () => {
  if (isDrawing()) toMap("Escape");
  unpick();
  choose(null);
  startDrawing("static", null);
  part("cross").hidden = true;
  for (const layer of [LABELS, AREAS]) showDrawn(layer, false);
};

part("class").append(...labelClasses.map((name) => new Option(name)));
part("classes").hidden = labelClasses.length < 2;
part("class").addEventListener("change", changeClass);
const LABEL_ACTS = {
  outline: () => startTool("polygon", LABELS), box: () => startTool("angled-rectangle", LABELS),
  area: () => startTool("rectangle", AREAS), split: startSplit, merge, delete: remove,
  copy: () => { if (chosen !== null) copy([chosen]); }, "copy-all": copyAll, rest,
  "take-back": () => takeBack(past, future), redo: () => takeBack(future, past),
};
for (const [name, act] of Object.entries(LABEL_ACTS)) part(name).addEventListener("click", act);
Object.assign(keys.label, crossKeys(clickLabel), {
  d: LABEL_ACTS.outline, b: LABEL_ACTS.box, a: LABEL_ACTS.area, s: startSplit, m: merge, x: remove,
  Delete: remove, c: LABEL_ACTS.copy, C: copyAll, t: nextClass, Escape: rest, Enter: () => toMap("Enter"),
  Backspace: () => pressCross(2), u: LABEL_ACTS["take-back"], U: LABEL_ACTS.redo,
});
map.on("click", (event) => clickLabel(event.point, event.originalEvent?.shiftKey ?? false));
map.boxZoom.disable(); // Shift chooses several
map.once("load", () => {
  const byClass = ["match", ["get", "class"], ...labelClasses.flatMap((name) => [name, labelColour(name)]), labelColour("")];
  addDrawn(AREAS, { lines: { "line-color": "#ffd600", "line-dasharray": [3, 2] } });
  addDrawn(LABELS, { fill: byClass, lines: { "line-color": byClass } });
});
