// Crops, drawn on the photo in the exact shape of the bucket that will train them. Corners resize, a drag moves, the wheel
// and plus and minus zoom, arrows move. What is chosen is saved at once, as a step that can be undone.

import { $, $$, icon, write } from "../lib/dom.js";
import { WHOLE, aspectOf, closeUp, closest, inside, place, shapeOf, subjectCrop, subjectOf, trained } from "./shapes.js";
import { attempt, room } from "./state.js";
import { view } from "./viewer.js";

const frame = $("#crop-frame");
const drawn = $("#drawn-box");
const PAUSE_MS = 500; // keys and the wheel save after a pause
const LEAST_PX = 64; // of the shorter side
let photo = null;
let at = 0; // which of the crops
let box = WHOLE;
let aspect = 1;
let timer = null;
let marking = false; // the next drag draws the subject's box

const clamp = (value, low, high) => Math.min(Math.max(value, low), Math.max(low, high));

// A frame of this width, in fractions of the photo's, about a middle; kept within the photo.
function framed(wide, x, y) {
  const widest = Math.min(1, (photo.height * aspect) / photo.width);
  const least = Math.min(widest, (LEAST_PX * Math.max(1, aspect)) / photo.width);
  const width = clamp(wide, least, widest);
  const height = (width * photo.width) / aspect / photo.height;
  const left = clamp(x - width / 2, 0, 1 - width);
  const top = clamp(y - height / 2, 0, 1 - height);
  return { left, top, right: Math.min(1, left + width), bottom: Math.min(1, top + height) };
}

const middle = () => [(box.left + box.right) / 2, (box.top + box.bottom) / 2];
const wideOf = (one) => one.right - one.left;
const current = () => photo.crops?.length ? photo.crops : [];

function draw() {
  const style = { left: box.left, top: box.top, width: wideOf(box), height: box.bottom - box.top };
  for (const [name, value] of Object.entries(style)) frame.style[name] = `${(value * 100).toFixed(4)}%`;
  const bucket = closest(room.buckets, photo.width, photo.height, box);
  write($("#crop-size"), `Trained as ${bucket[0]} × ${bucket[1]}`);
  const widest = Math.min(1, (photo.height * aspect) / photo.width);
  $("#crop-zoom").value = (wideOf(box) / widest) * 100;
}

function drawShapes() {
  const own = closest(room.buckets, photo.width, photo.height);
  const shapes = [...room.buckets].sort((a, b) => aspectOf(b) - aspectOf(a));
  $("#crop-shape").replaceChildren(...shapes.map((bucket) => {
    const words = bucket[0] === bucket[1] ? "square" : bucket === own ? "as the photo" : bucket[0] > bucket[1] ? "wide" : "tall";
    return new Option(`${bucket[0]} × ${bucket[1]}, ${words}`, bucket.join("x"));
  }));
  $("#crop-shape").value = closest(room.buckets, photo.width, photo.height, box).join("x");
  $("#crop-shape").parentElement.hidden = shapes.length < 2;
}

function take(one) {
  photo = one;
  const all = trained(photo, room.buckets);
  at = Math.min(at, all.length - 1);
  box = all[at].box;
  aspect = aspectOf(all[at].bucket);
  drawShapes();
  draw();
}

function save() {
  clearTimeout(timer);
  timer = null;
  const list = current();
  const crops = list.length ? list.map((one, place_) => (place_ === at ? box : one)) : [box];
  const { id } = photo;
  return attempt(() => room.change(id, { crops: crops.map((one) => ({ box: one })) }));
}

function change(next, pause = false) {
  box = next;
  draw();
  clearTimeout(timer);
  if (pause) timer = setTimeout(save, PAUSE_MS);
  else save();
}

// ---- the pointer ----

function resized(corner, start, point) {
  const fixed = { x: corner.includes("w") ? start.right : start.left, y: corner.includes("n") ? start.bottom : start.top };
  const wide = Math.max(Math.abs(point.x - fixed.x), (Math.abs(point.y - fixed.y) * photo.height * aspect) / photo.width);
  const roomX = corner.includes("w") ? fixed.x : 1 - fixed.x;
  const roomY = corner.includes("n") ? fixed.y : 1 - fixed.y;
  const width = Math.min(wide, roomX, (roomY * photo.height * aspect) / photo.width);
  const height = (width * photo.width) / aspect / photo.height;
  return framed(width, fixed.x + (corner.includes("w") ? -width : width) / 2, fixed.y + (corner.includes("n") ? -height : height) / 2);
}

frame.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || marking) return;
  event.preventDefault();
  event.stopPropagation();
  frame.focus({ preventScroll: true });
  frame.setPointerCapture(event.pointerId);
  const [start, from, corner] = [box, view.point(event), event.target.dataset.corner];
  const follow = (move) => {
    const to = view.point(move);
    const [x, y] = [(start.left + start.right) / 2 + to.x - from.x, (start.top + start.bottom) / 2 + to.y - from.y];
    box = corner ? resized(corner, start, to) : framed(wideOf(start), x, y);
    draw();
  };
  frame.addEventListener("pointermove", follow);
  frame.addEventListener("lostpointercapture", () => {
    frame.removeEventListener("pointermove", follow);
    if (box !== start) change(box);
  }, { once: true });
});

$("#stage").addEventListener("wheel", (event) => {
  if (!photo || event.target.closest(".options")) return;
  event.preventDefault();
  change(framed(wideOf(box) * Math.exp(event.deltaY / 600), ...middle()), true);
}, { passive: false });

// A box around the subject, drawn by the user: the default crop keeps what is in it.
$("#canvas").addEventListener("pointerdown", (event) => {
  if (!marking || event.button !== 0) return;
  event.preventDefault();
  const from = view.point(event);
  const canvas = event.currentTarget;
  canvas.setPointerCapture(event.pointerId);
  let found = null;
  const follow = (move) => {
    const to = view.point(move);
    const sides = [[from.x, to.x], [from.y, to.y]].map((pair) => pair.map((one) => clamp(one, 0, 1)).sort((a, b) => a - b));
    found = { left: sides[0][0], top: sides[1][0], right: sides[0][1], bottom: sides[1][1] };
    drawn.hidden = false;
    for (const [name, value] of Object.entries({ left: found.left, top: found.top, width: wideOf(found), height: found.bottom - found.top })) drawn.style[name] = `${value * 100}%`;
  };
  canvas.addEventListener("pointermove", follow);
  canvas.addEventListener("lostpointercapture", async () => {
    canvas.removeEventListener("pointermove", follow);
    drawn.hidden = true;
    setMarking(false);
    if (found && wideOf(found) > 0.02 && found.bottom - found.top > 0.02) {
      const { id } = photo;
      await attempt(() => room.change(id, { subject: found }));
    }
  }, { once: true });
});

function setMarking(on) {
  marking = on;
  $("[data-crop=box]").setAttribute("aria-pressed", String(on));
  $("#canvas").classList.toggle("marking", on);
}

// ---- the buttons ----

function onPress(event) {
  if (!photo) return;
  const press = event.target.closest("[data-crop]")?.dataset.crop;
  if (press === "largest") change(inside(photo.width, photo.height, aspect));
  else if (press === "box") setMarking(!marking);
  else if (press === "subject") {
    const subject = subjectOf(photo);
    if (subject) change(subjectCrop(subject, photo.width, photo.height, aspect));
    else setMarking(true); // nobody knows where it is: the user shows it
  }
}

$("#crop-zoom").addEventListener("input", (event) => {
  if (!photo) return;
  const widest = Math.min(1, (photo.height * aspect) / photo.width);
  change(framed((event.target.value / 100) * widest, ...middle()), true);
});
$("#crop-shape").addEventListener("change", (event) => {
  aspect = aspectOf(event.target.value.split("x").map(Number));
  change(framed(wideOf(box) * Math.sqrt(aspect / shapeOf(photo, box)), ...middle()));
});
$("#loupe").addEventListener("click", onPress);
room.on("flush", () => { if (timer) save(); });

export const cropTool = {
  begin(one) {
    at = 0;
    take(one);
    [view.drags, view.wheels] = [false, false];
    view.fit();
    frame.focus({ preventScroll: true });
  },
  end() {
    if (timer) save();
    photo = null;
    setMarking(false);
    [view.drags, view.wheels] = [true, true];
  },
  refresh(one) { if (!timer) take(one); },
  key(event) {
    const step = event.shiftKey ? 0.05 : 0.01;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    const zooms = { "+": 1 / 1.05, "=": 1 / 1.05, "-": 1.05, _: 1.05 };
    const [x, y] = middle();
    if (moves[event.key] && event.target === frame) change(framed(wideOf(box), x + moves[event.key][0], y + moves[event.key][1]), true);
    else if (zooms[event.key]) change(framed(wideOf(box) / zooms[event.key], x, y), true);
    else return false;
    return true;
  },
};

// ---- the list of crops, in the panel ----

function cropButton(one, crop, words, pressed, extra = "") {
  const button = document.createElement("button");
  button.type = "button";
  if (extra) button.className = extra;
  else button.setAttribute("aria-pressed", String(pressed));
  const pic = document.createElement("span");
  pic.className = "pic";
  place(pic, one, crop.box);
  const image = new Image();
  image.src = one.thumb_url;
  image.alt = "";
  pic.append(image);
  button.append(pic, words);
  return button;
}

export function drawCrops(one, openTool) {
  const all = trained(one, room.buckets);
  write($("#crop-count"), all.length === 1 ? "1 picture" : `${all.length} pictures`);
  const saveAll = (crops) => attempt(() => room.change(one.id, { crops: crops.map((crop) => ({ box: crop })) }));
  const boxes = all.map((crop) => crop.box);
  const items = all.map((crop, place_) => {
    const item = document.createElement("div");
    const button = cropButton(one, crop, `${crop.bucket[0]} × ${crop.bucket[1]}`, place_ === at && photo !== null);
    button.setAttribute("aria-label", `Crop ${place_ + 1}, ${crop.bucket[0]} × ${crop.bucket[1]}`);
    button.onclick = () => { openTool("crop"); at = place_; take(one); drawCrops(one, openTool); };
    item.append(button);
    if (one.crops?.length) {
      const away = document.createElement("button");
      away.type = "button";
      away.className = "away";
      away.setAttribute("aria-label", all.length > 1 ? `Remove crop ${place_ + 1}` : "Back to the default crop");
      away.append(icon("close"));
      away.onclick = () => saveAll(boxes.filter((_, other) => other !== place_));
      item.append(away);
    }
    return item;
  });
  const subject = subjectOf(one);
  const close = subject && closeUp(subject, one.width, one.height, aspectOf(all[0].bucket));
  if (close && all.length === 1) {
    const button = cropButton(one, { box: close }, "Also a close-up", false, "proposed");
    button.onclick = () => saveAll([...boxes, close]);
    items.push(button);
  }
  if (all.length < 8) {
    const more = document.createElement("button");
    more.type = "button";
    more.className = "another";
    more.append(icon("plus"), "Another crop");
    more.onclick = async () => {
      const shape = aspectOf(all[0].bucket);
      const [wide, high] = [(boxes[0].right - boxes[0].left) * 0.6, (boxes[0].bottom - boxes[0].top) * 0.6];
      const [x, y] = [(boxes[0].left + boxes[0].right) / 2, (boxes[0].top + boxes[0].bottom) / 2];
      const tight = { left: x - wide / 2, right: x + wide / 2, top: y - high / 2, bottom: y + high / 2 };
      const changed = await saveAll([...boxes, inside(one.width, one.height, shape, tight)]);
      if (changed) { openTool("crop"); at = all.length; take(changed); }
    };
    items.push(more);
  }
  $("#crops").replaceChildren(...items);
}

export const markedCrop = () => $$("#crops [aria-pressed=true]").length;
