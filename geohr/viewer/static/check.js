"use strict";

// A sample of objects and places, judged one after the other.

const QUESTIONS = {
  objects: "Is there one object that this outline shows well, with at least half of it in common?",
  places: "Is there an object with its middle in this square that the map does not have?",
  traced: "Trace the outline of each: click its corners, and the first one again. Skip when none is left.",
};
const AROUND_M = { objects: 12, places: 4 }; // metres of ground round what is asked about
const METRES_A_DEGREE = 111320;
const ASKED = "#ff4081";

let tasks = null;
let asked = -1; // the task that is shown
const given = []; // answers to take back

function boxOf(task) {
  const points = task.geometry.coordinates.flat(task.geometry.type === "Polygon" ? 1 : 2);
  const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
  const high = AROUND_M[task.layer] / METRES_A_DEGREE, wide = high / Math.cos(ys[0] * Math.PI / 180);
  return [[Math.min(...xs) - wide, Math.min(...ys) - high], [Math.max(...xs) + wide, Math.max(...ys) + high]];
}

function showTask(at) {
  if (at < 0 || at >= tasks.length) { showDone(); return; }
  asked = at;
  const task = tasks[at];
  map.getSource("asked").setData({ type: "Feature", properties: {}, geometry: task.geometry });
  map.fitBounds(boxOf(task), { padding: 20, duration: 0 });
  const { width, height } = stageSize();
  placeCross(width / 2, height / 2);
  showAnswers();
}

function showAnswers() {
  const tracing = draw.getMode() === "polygon";
  const task = tasks[asked];
  const count = tasks.filter(({ answer }) => answer !== null).length;
  part("asked").textContent = !task ? "Every task has an answer." : QUESTIONS[tracing ? "traced" : task.layer];
  part("answers").hidden = tracing || !task;
  part("tracing").hidden = !tracing;
  part("skip").disabled = !task || tracing;
  part("back").disabled = given.length === 0;
  part("yes").setAttribute("aria-pressed", task?.answer === 1);
  part("no").setAttribute("aria-pressed", task?.answer === 0);
  part("judged").textContent = `${count} of ${tasks.length} judged, in ${told.check}`;
}

function showDone() {
  asked = -1;
  map.getSource("asked").setData({ type: "FeatureCollection", features: [] });
  showAnswers();
}

function nextTask() {
  const open = (task) => task.answer === null;
  const later = tasks.findIndex((task, at) => at > asked && open(task));
  showTask(later >= 0 ? later : tasks.findIndex(open));
}

async function give(task, answer) {
  say("");
  try {
    await ask("answer", { layer: task.layer, id: task.id, answer });
  } catch (error) {
    say(error.status ? error.message : `The server does not answer; start it again with --port ${location.port}.`);
    return false;
  }
  task.answer = answer;
  return true;
}

async function answer(value) {
  const task = tasks?.[asked];
  if (!task || draw.getMode() === "polygon") return;
  const before = { at: asked, answer: task.answer, traced: [] };
  part("estimated").replaceChildren(); // of the sample as it was
  if (!await give(task, value)) return;
  given.push(before);
  if (task.layer === "places" && value === 1) startTrace(before); else nextTask();
}

function startTrace(before) {
  startDrawing("polygon", async (id) => {
    const { geometry } = draw.getSnapshotFeature(id);
    // A square may hold several that the map does not have. The next is traced at once: until this
    // one is kept, another square may be asked about, whose outlines are not those of this one.
    startDrawing("static", null);
    startTrace(before);
    const kept = await keepEdit({ layer: "traced", put: [{ id: null, geometry, properties: {} }], drop: [] });
    if (kept) { before.traced.push(kept.undo); await refresh("traced"); }
    drop(id);
  });
  showAnswers();
}

function stopTrace() {
  if (draw.getMode() !== "polygon") return;
  if (isDrawing()) toMap("Escape");
  startDrawing("static", null);
}

async function takeAnswerBack() {
  if (isDrawing()) { draw.undo(); showDrawing(); return; }
  stopTrace();
  const last = given.at(-1);
  if (!last || waiting.length) return;
  if (!await give(tasks[last.at], last.answer)) return;
  for (const undo of last.traced) await keepEdit(undo);
  if (last.traced.length) refresh("traced");
  given.pop();
  showTask(last.at);
}

function skip() {
  if (draw.getMode() === "polygon") { stopTrace(); nextTask(); return; }
  if (!tasks || asked < 0) return;
  const later = tasks.findIndex((task, at) => at > asked && task.answer === null);
  showTask(later >= 0 ? later : tasks.findIndex((task) => task.answer === null));
}

async function showEstimate() {
  say("");
  try {
    const lines = await ask("estimate");
    part("estimated").replaceChildren(...lines.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  } catch (error) {
    say(error.message);
  }
}

function showAsked(on) { map.setLayoutProperty("asked-line", "visibility", on ? "visible" : "none"); }

// While labels are drawn, the square that was asked about stays in sight.
if (told.check) entering.review = () => showAsked(false);

entering.check = async () => {
  choose(null);
  showDrawn("traced", true);
  showAsked(true);
  try {
    tasks ??= await ask("tasks");
    nextTask();
  } catch (error) {
    say(error.message);
  }
};
leaving.check = () => {
  stopTrace();
  part("cross").hidden = true;
  showDrawn("traced", false);
};

if (told.check) {
  for (const [name, act] of Object.entries({ yes: () => answer(1), no: () => answer(0), back: takeAnswerBack, skip, untraced: skip, estimate: showEstimate })) part(name).addEventListener("click", act);
  Object.assign(keys.check, crossKeys(() => {}), {
    y: () => answer(1), n: () => answer(0), u: takeAnswerBack, s: skip, e: showEstimate,
    Enter: () => toMap("Enter"), Escape: () => { if (isDrawing()) toMap("Escape"); },
  });
  map.once("load", () => {
    addDrawn("traced", { fill: DRAWN_COLOUR, lines: { "line-color": DRAWN_COLOUR } });
    map.addSource("asked", { type: "geojson", data: { type: "FeatureCollection", features: [] } });
    map.addLayer({ id: "asked-line", type: "line", source: "asked", layout: { visibility: "none" }, paint: { "line-color": ASKED, "line-width": 4 } });
  });
}
