"use strict";

// The image alone, or that of the date before with what changed, beside the result.

let plain = null; // the map on the left side of the divider
let plainReady = false;

// The maps that show objects: the main one, and that of the date before.
function mapsWithObjects() { return told.before && plainReady ? [map, plain] : [map]; }

function placeSwipe(share) {
  const at = Math.min(Math.max(share, 0), 1) * 100;
  part("swipe").style.left = `${at}%`;
  part("swipe").setAttribute("aria-valuenow", at.toFixed(0));
  part("plain").style.clipPath = `inset(0 ${100 - at}% 0 0)`;
}

function follow() { plain.jumpTo({ center: map.getCenter(), zoom: map.getZoom() }); }

function makePlain() {
  const scene = told.before ? rasterSource("before", told.before) : sceneSource();
  plain = makeMap("plain", scene, { withObjects: Boolean(told.before), interactive: false });
  plain.on("error", (event) => say(event.error.message));
  if (!told.before) return;
  plain.once("load", () => {
    plainReady = true;
    applyThreshold();
    showOutlines();
    index.review.forEach((review, row) => { if (review) mark(index.id[row], { review }); });
    if (chosen !== null) mark(chosen, { selected: true });
  });
}

function showSwipe() {
  const on = part("compare").checked;
  part("plain").hidden = part("swipe").hidden = !on;
  if (!on) {
    map.off("move", follow);
    return;
  }
  if (!plain) makePlain();
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
part("compare").addEventListener("change", showSwipe);
keys.all.w = () => part("compare").click();

if (told.before) {
  part("compare").nextElementSibling.textContent = "Swipe between both dates";
  part("colouring").querySelector("[value=class]").textContent = "by kind of change";
  part("left").textContent = told.before.scene;
  part("right").textContent = told.scene;
  part("compare").checked = true;
  showSwipe();
}
