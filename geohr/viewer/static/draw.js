"use strict";

// Drawing on the map with Terra Draw, by pointer or by keys, and sending what was drawn.

const { TerraDraw, TerraDrawModeUndoRedo, TerraDrawPolygonMode, TerraDrawAngledRectangleMode,
  TerraDrawRectangleMode, TerraDrawLineStringMode, TerraDrawSelectMode, ValidateNotSelfIntersecting } = terraDraw;
const DRAWN_COLOUR = "#00b8d4";
const STEP = 10; // pixels that an arrow key moves the cross
const EDGE = 40; // pixels from the edge at which the map moves instead
const RETRY_MS = 2000;
// A key in the browser's own store for edits that the server has not taken yet.
const WAITING = `geohr ${told.scene} ${told.labels.file}`;

// A crossing may be passed while drawing, and must be gone at the end.
function uncrossed(feature, { updateType }) {
  return updateType === "finish" || updateType === "commit" ? ValidateNotSelfIntersecting(feature) : { valid: true };
}

const filled = { fillColor: DRAWN_COLOUR, fillOpacity: 0.2, outlineColor: DRAWN_COLOUR, outlineWidth: 3 };
const line = { lineStringColor: "#ff4081", lineStringWidth: 3 };
const draw = new TerraDraw({
  adapter: new terraDrawMaplibreGlAdapter.TerraDrawMapLibreGLAdapter({ map, coordinatePrecision: 9 }),
  undoRedo: { modeLevel: new TerraDrawModeUndoRedo() },
  modes: [
    new TerraDrawPolygonMode({ styles: filled, validation: uncrossed, showCoordinatePoints: true }),
    new TerraDrawAngledRectangleMode({ styles: filled }),
    new TerraDrawRectangleMode({ styles: { ...filled, fillOpacity: 0.05 } }),
    new TerraDrawLineStringMode({ styles: line }),
    new TerraDrawSelectMode({
      allowManualSelection: false, allowManualDeselection: false, keyEvents: null, pointerDistance: 20,
      styles: { selectedPolygonColor: DRAWN_COLOUR, selectedPolygonFillOpacity: 0.1, selectedPolygonOutlineColor: DRAWN_COLOUR, selectedPolygonOutlineWidth: 3, selectionPointWidth: 6, midPointWidth: 4, midPointOpacity: 0.7 },
      flags: { polygon: { feature: { draggable: true, validation: uncrossed, coordinates: { midpoints: { draggable: true }, draggable: true, deletable: true } } } },
    }),
  ],
});

let onFinish = null; // what is done with what was drawn next

// What draws: `polygon`, `angled-rectangle`, `rectangle`, `linestring`, or `static` for nothing.
function startDrawing(kind, whenFinished) {
  onFinish = whenFinished;
  draw.setMode(kind);
  showDrawing();
}

function isDrawing() { return draw.enabled && draw.getModeState() === "drawing"; }

function showDrawing() {
  if (mode === "label") showTools();
  for (const each of document.querySelectorAll(".finish, .cancel")) each.disabled = !isDrawing();
}

function toMap(key) {
  for (const type of ["keydown", "keyup"]) map.getCanvas().dispatchEvent(new KeyboardEvent(type, { key }));
  showDrawing();
}

function drop(id) { if (draw.hasFeature(id)) draw.removeFeatures([id]); }

// Sending: one edit after the other, kept in the browser until the server has it

const waiting = JSON.parse(localStorage.getItem(WAITING) ?? "[]");
const afterwards = new Map(); // by an edit's key, what is done when it is kept or refused
let onKept = () => {}; // what is shown of an edit that was kept, be it from before the page was loaded
let sending = false;

function remember() {
  if (waiting.length) localStorage.setItem(WAITING, JSON.stringify(waiting)); else localStorage.removeItem(WAITING);
}

// The server's answer to an edit, whenever it comes; null where it refuses.
function keepEdit(edit) {
  const key = crypto.randomUUID();
  waiting.push({ key, edit });
  remember();
  return new Promise((done) => { afterwards.set(key, done); sendWaiting(); });
}

async function sendWaiting() {
  if (sending) return;
  sending = true;
  while (waiting.length) {
    const { key, edit } = waiting[0];
    let answer = null;
    try {
      answer = await ask("edit", edit);
      say("");
    } catch (error) {
      if (error.status === undefined || error.status >= 500) {
        const why = error.status ? error.message : `The server does not answer. Start it again with --port ${location.port}: what you drew is kept here until then.`;
        say(`${why} ${waiting.length} to be sent.`);
        setTimeout(sendWaiting, RETRY_MS);
        break;
      }
      say(error.message);
    }
    waiting.shift();
    remember();
    if (answer) onKept(edit, answer);
    if (answer && !afterwards.has(key)) refresh(edit.layer);
    afterwards.get(key)?.(answer);
    afterwards.delete(key);
  }
  sending = false;
}

// Fetch the tiles of a layer again, and wait until they are there.
function refresh(layer) {
  if (!map.getSource(layer)) return Promise.resolve();
  return new Promise((done) => {
    map.refreshTiles(layer);
    const check = () => { if (map.isSourceLoaded(layer)) { map.off("sourcedata", check); done(); } };
    map.on("sourcedata", check);
    check();
  });
}

// A layer that is drawn, as tiles.
function addDrawn(layer, { fill, lines }) {
  map.addSource(layer, { type: "vector", tiles: [here(`drawn/${layer}/{z}/{x}/{y}`)], maxzoom: told.zoom });
  const place = { source: layer, "source-layer": "objects", layout: { visibility: "none" } };
  const shown = ["case", ["boolean", ["feature-state", "edited"], false], 0, 1];
  if (fill) map.addLayer({ id: `${layer}-fill`, type: "fill", ...place, paint: { "fill-color": fill, "fill-opacity": ["*", shown, ["case", SELECTED, 0.5, 0.25]] } });
  map.addLayer({ id: `${layer}-line`, type: "line", ...place, paint: { "line-opacity": shown, "line-width": ["case", SELECTED, 5, 3], ...lines } });
}

function showDrawn(layer, on) {
  for (const name of [`${layer}-fill`, `${layer}-line`]) if (map.getLayer(name)) map.setLayoutProperty(name, "visibility", on ? "visible" : "none");
}

// The cross: a pointer that is moved by keys

const cross = { x: 0, y: 0, held: false };

function stageSize() { const { width, height } = part("stage").getBoundingClientRect(); return { width, height }; }

function placeCross(x, y) {
  const { width, height } = stageSize();
  const inside = (value, most) => Math.min(Math.max(value, EDGE), most - EDGE);
  const [atX, atY] = [inside(x, width), inside(y, height)];
  if (atX !== x || atY !== y) map.panBy([x - atX, y - atY], { duration: 0 });
  Object.assign(cross, { x: atX, y: atY });
  part("cross").style.transform = `translate(${atX}px, ${atY}px)`;
}

function pointer(type, button, buttons) {
  const { left, top } = map.getCanvas().getBoundingClientRect();
  map.getCanvas().dispatchEvent(new PointerEvent(type, {
    bubbles: true, cancelable: true, pointerId: 1, isPrimary: true, pointerType: "mouse",
    clientX: left + cross.x, clientY: top + cross.y, button, buttons,
  }));
}

function moveCross(dx, dy, event) {
  part("cross").hidden = false;
  const step = event.shiftKey ? 1 : STEP;
  placeCross(cross.x + dx * step, cross.y + dy * step);
  pointer("pointermove", -1, cross.held ? 1 : 0);
}

function pressCross(button) {
  pointer("pointermove", -1, 0);
  pointer("pointerdown", button, button === 2 ? 2 : 1);
  pointer("pointerup", button, 0);
}

function grab() {
  if (!cross.held) pointer("pointermove", -1, 0);
  pointer(cross.held ? "pointerup" : "pointerdown", 0, cross.held ? 0 : 1);
  cross.held = !cross.held;
}

// `pick` is what a click at a point of the map does, apart from drawing.
function crossKeys(pick) {
  return {
    ArrowLeft: (event) => moveCross(-1, 0, event), ArrowRight: (event) => moveCross(1, 0, event),
    ArrowUp: (event) => moveCross(0, -1, event), ArrowDown: (event) => moveCross(0, 1, event),
    " ": (event) => {
      part("cross").hidden = false;
      if (cross.held) { grab(); return; }
      pressCross(0);
      pick(new maplibregl.Point(cross.x, cross.y), event.shiftKey);
    },
    g: grab,
    "+": () => zoomAtCross(1), "=": () => zoomAtCross(1), "-": () => zoomAtCross(-1),
  };
}

function zoomAtCross(by) {
  const around = map.unproject([cross.x, cross.y]);
  map.easeTo({ zoom: map.getZoom() + by, around, duration: 0 });
}

map.once("load", () => {
  draw.start();
  draw.on("finish", (id, context) => {
    showDrawing();
    onFinish?.(id, context);
  });
  draw.on("change", showDrawing);
  const { width, height } = stageSize();
  placeCross(width / 2, height / 2);
  sendWaiting();
});
map.getCanvas().addEventListener("pointerdown", (event) => { if (event.isTrusted) part("cross").hidden = true; });
for (const each of document.querySelectorAll(".finish")) each.addEventListener("click", () => toMap("Enter"));
for (const each of document.querySelectorAll(".cancel")) each.addEventListener("click", () => toMap("Escape"));
