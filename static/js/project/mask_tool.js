// The mask: what is the subject (255), what is background (128), and what is ignored (0). Painted with a brush by mouse, pen
// or touch, or box by box. It is edited at no more than SIDE_PX a side, far finer than the latents that it weighs, and
// saved at the photo's size after each stroke, as a step that can be undone.

import { put } from "../lib/api.js";
import { $, $$ } from "../lib/dom.js";
import { greyPng } from "../lib/grey_png.js";
import { attempt, room } from "./state.js";
import { view } from "./viewer.js";

const [SUBJECT, BACKGROUND, IGNORED] = [255, 128, 0];
const SIDE_PX = 1024;
const canvas = $("#mask-canvas");
const ring = $("#brush");
const drawn = $("#drawn-box");
const size = $("#brush-size");
let photo = null;
let width = 1;
let height = 1;
let values = new Uint8Array(1);
let loaded = null; // the address of the mask that is shown
let boxes = false;
let stroke = null;
let ready = false; // nothing is painted before the mask that is there is shown
let saving = 0; // strokes that the studio does not have yet: nothing may be shown in their place

const brush = () => Number($("[data-paint][aria-pressed=true]").dataset.paint);

// ---- showing ----

// Background is veiled, what is ignored is hatched in red, the subject is left as it is.
function colour(pixels, offset, value, x, y) {
  if (value === SUBJECT) pixels[offset + 3] = 0;
  else if (value === IGNORED) pixels.set(((x + y) & 15) < 6 ? [255, 130, 115, 190] : [110, 20, 14, 150], offset);
  else pixels.set([12, 15, 19, 150], offset);
}

function draw(left = 0, top = 0, right = width, bottom = height) {
  const [x0, y0] = [Math.max(0, Math.floor(left)), Math.max(0, Math.floor(top))];
  const [x1, y1] = [Math.min(width, Math.ceil(right)), Math.min(height, Math.ceil(bottom))];
  if (x1 <= x0 || y1 <= y0) return;
  const data = new ImageData(x1 - x0, y1 - y0);
  for (let y = y0; y < y1; y += 1) {
    for (let x = x0; x < x1; x += 1) colour(data.data, 4 * ((y - y0) * (x1 - x0) + x - x0), values[y * width + x], x, y);
  }
  canvas.getContext("2d").putImageData(data, x0, y0);
}

// The values of the mask at this address, `wide` x `high`; without a mask all of the photo counts. Null where it has gone.
async function read(address, wide, high) {
  const found = new Uint8Array(wide * high).fill(SUBJECT);
  if (!address) return found;
  const image = new Image();
  image.src = address;
  try {
    await image.decode();
  } catch {
    return null;
  }
  const copy = new OffscreenCanvas(wide, high).getContext("2d", { willReadFrequently: true });
  copy.imageSmoothingEnabled = false;
  copy.drawImage(image, 0, 0, wide, high);
  const pixels = copy.getImageData(0, 0, wide, high).data;
  for (let at = 0; at < found.length; at += 1) found[at] = pixels[4 * at] > 191 ? SUBJECT : pixels[4 * at] < 64 ? IGNORED : BACKGROUND;
  return found;
}

async function load() {
  const { id, mask_url: address } = photo;
  loaded = address;
  $("#mask-reset").disabled = photo.mask !== "you";
  const scale = Math.min(1, SIDE_PX / Math.max(photo.width, photo.height));
  const [wide, high] = [photo.width, photo.height].map((side) => Math.max(1, Math.round(side * scale)));
  const found = await read(address, wide, high);
  if (!found || loaded !== address || photo?.id !== id || stroke || saving) return;
  [width, height, values, ready] = [wide, high, found, true];
  [canvas.width, canvas.height] = [width, height];
  draw();
}

// ---- painting ----

// The first stroke on a photo without a mask says what the subject is: all else becomes background.
function begin(value) {
  if (!loaded && value === SUBJECT && values.every((one) => one === SUBJECT)) {
    values.fill(BACKGROUND);
    draw();
  }
}

function dot(x, y, radius, value) {
  const [top, bottom] = [Math.max(0, Math.floor(y - radius)), Math.min(height - 1, Math.ceil(y + radius))];
  for (let row = top; row <= bottom; row += 1) {
    const half = Math.sqrt(Math.max(0, radius * radius - (row - y) * (row - y)));
    values.fill(value, row * width + Math.max(0, Math.round(x - half)), row * width + Math.min(width, Math.round(x + half) + 1));
  }
}

function line(from, to, radius, value) {
  const steps = Math.max(1, Math.ceil(Math.hypot(to.x - from.x, to.y - from.y) / Math.max(1, radius / 3)));
  for (let at = 0; at <= steps; at += 1) dot(from.x + ((to.x - from.x) * at) / steps, from.y + ((to.y - from.y) * at) / steps, radius, value);
  draw(Math.min(from.x, to.x) - radius - 1, Math.min(from.y, to.y) - radius - 1, Math.max(from.x, to.x) + radius + 2, Math.max(from.y, to.y) + radius + 2);
}

const pointOf = (event) => { const { x, y } = view.point(event); return { x: x * width, y: y * height }; };
// The slider is in pixels of the screen, so that zooming in makes the brush finer.
const radiusOf = (event) => ((size.value / 2) * width) / canvas.getBoundingClientRect().width * (event.pointerType === "pen" ? 0.3 + event.pressure : 1);

async function save() {
  const { id, width: wide, height: high } = photo;
  const [copy, small, across] = [values.slice(), width, Uint32Array.from({ length: wide }, (_, x) => Math.min(width - 1, Math.floor((x * width) / wide)))];
  const [row, last] = [new Uint8Array(wide), height - 1];
  saving += 1;
  await attempt(() => room.inOrder(async () => {
    const png = await greyPng(wide, high, (y) => {
      const start = Math.min(last, Math.floor((y * (last + 1)) / high)) * small;
      for (let x = 0; x < wide; x += 1) row[x] = copy[start + across[x]];
      return row;
    });
    const { data } = await put(`/photos/${id}/mask`, png, () => {}).promise;
    room.did([id]);
    if (photo?.id === id) loaded = data.mask_url; // what is shown is what was saved
    room.put([data]);
    room.setHistory({ undo: room.history.undo ?? "the last change" });
  }));
  saving -= 1;
}

function boxed(from, to, value) {
  const [left, right] = [Math.min(from.x, to.x), Math.max(from.x, to.x)].map((x) => Math.max(0, Math.min(width, Math.round(x))));
  const [top, bottom] = [Math.min(from.y, to.y), Math.max(from.y, to.y)].map((y) => Math.max(0, Math.min(height, Math.round(y))));
  for (let y = top; y < bottom; y += 1) values.fill(value, y * width + left, y * width + right);
  draw(left, top, right, bottom);
}

function drawBox(from, to) {
  drawn.hidden = false;
  const style = { left: Math.min(from.x, to.x) / width, top: Math.min(from.y, to.y) / height, width: Math.abs(to.x - from.x) / width, height: Math.abs(to.y - from.y) / height };
  for (const [name, value] of Object.entries(style)) drawn.style[name] = `${value * 100}%`;
}

function onDown(event) {
  if (!photo || !ready || event.button > 0 || event.target.closest("button, .options")) return;
  if (view.pinching) { cancel(); return; }
  const value = event.altKey ? BACKGROUND : brush();
  stroke = { pointer: event.pointerId, value, before: values.slice(), from: pointOf(event), last: pointOf(event) };
  $("#canvas").setPointerCapture(event.pointerId);
  begin(value);
  if (!boxes) line(stroke.last, stroke.last, radiusOf(event), value);
}

function onMove(event) {
  if (!photo) return;
  moveRing(event);
  if (!stroke || stroke.pointer !== event.pointerId) return;
  if (view.pinching) { cancel(); return; }
  if (boxes) { stroke.last = pointOf(event); drawBox(stroke.from, stroke.last); return; }
  const path = event.getCoalescedEvents?.() ?? [];
  for (const each of path.length ? path : [event]) {
    const to = pointOf(each);
    line(stroke.last, to, radiusOf(each), stroke.value);
    stroke.last = to;
  }
}

function onUp(event) {
  if (!stroke || stroke.pointer !== event.pointerId) return;
  if (boxes) boxed(stroke.from, stroke.last, stroke.value);
  drawn.hidden = true;
  stroke = null;
  save();
}

// A second finger moves the photo instead: what the first has painted goes.
function cancel() {
  if (!stroke) return;
  values = stroke.before;
  stroke = null;
  drawn.hidden = true;
  draw();
}

function moveRing(event) {
  const { x, y } = view.point(event);
  ring.hidden = boxes || event.pointerType === "touch";
  const across = (2 * radiusOf(event) * canvas.offsetWidth) / width;
  Object.assign(ring.style, { left: `${x * 100}%`, top: `${y * 100}%`, width: `${across}px`, height: `${across}px` });
}

function setBoxes(on) {
  boxes = on;
  $("#mask-box").setAttribute("aria-pressed", String(on));
}

function choose(value) {
  for (const button of $$("[data-paint]")) button.setAttribute("aria-pressed", String(button.dataset.paint === String(value)));
}

const area = $("#canvas");
area.addEventListener("pointerdown", onDown);
area.addEventListener("pointermove", onMove);
area.addEventListener("pointerup", onUp);
area.addEventListener("pointercancel", cancel);
area.addEventListener("pointerleave", () => { ring.hidden = true; });
$("#mask-box").addEventListener("click", () => setBoxes(!boxes));
for (const button of $$("[data-paint]")) button.addEventListener("click", () => choose(button.dataset.paint));
$("#mask-reset").addEventListener("click", () => {
  const { id } = photo;
  attempt(() => room.edit([id], { mask: null }));
});

export const maskTool = {
  begin(one) {
    photo = one;
    view.drags = false;
    [canvas.hidden, canvas.width, ready] = [false, 1, false];
    load();
  },
  end() {
    photo = null;
    loaded = null;
    view.drags = true;
    canvas.hidden = true;
    ring.hidden = true;
    setBoxes(false);
  },
  refresh(one) {
    photo = one;
    if (one.mask_url !== loaded && !stroke && !saving) load();
    $("#mask-reset").disabled = one.mask !== "you";
  },
  key(event) {
    const steps = { "[": 1 / 1.2, "]": 1.2 };
    if (steps[event.key]) size.value = Number(size.value) * steps[event.key];
    else if (event.key === "b") setBoxes(!boxes);
    else if ("aei".includes(event.key) && event.key.length === 1) choose({ a: SUBJECT, e: BACKGROUND, i: IGNORED }[event.key]);
    else return false;
    return true;
  },
};
