// The crop of a photo: by default all of it, or the largest square in the middle where the model trains on squares.
// The dialog has three sliders, so that the keyboard can do everything that dragging the frame can.

import { ApiError, api } from "../lib/api.js";
import { $, $$, page, toast } from "../lib/dom.js";
import { onSubmit } from "../lib/forms.js";

const dialog = document.getElementById("crop");
const form = $("form", dialog);
const image = $("img", dialog);
const frame = $(".crop-frame", dialog);
const keepsShapes = page.dataset.keepsShapes === "yes"; // else the model trains on squares
const LARGEST = { size: 1, x: 0.5, y: 0.5 };
const now = { card: null, width: 1, height: 1 };

const percent = (fraction) => `${(fraction * 100).toFixed(3)}%`;

// The frame's width and height in pixels: a square, or the photo's own shape; size 1 is the largest.
function sidesOf({ size, shape }, width, height) {
  const short = Math.min(width, height);
  return shape === "square" ? [size * short, size * short] : [size * width, size * height];
}

// {size, shape, x, y} (size, x, y in 0..1; x, y: share of the room that is left)  ->  a box in fractions
function boxOf(handle, width, height) {
  const [wide, high] = sidesOf(handle, width, height);
  const left = (handle.x * (width - wide)) / width;
  const top = (handle.y * (height - high)) / height;
  return { left, top, right: Math.min(1, left + wide / width), bottom: Math.min(1, top + high / height) };
}

// The other way round: the largest frame inside the box; without a box, the largest there is, in the middle.
function handleOf(box, width, height) {
  if (!box) return { ...LARGEST, shape: keepsShapes ? "photo" : "square" };
  const [boxWide, boxHigh] = [(box.right - box.left) * width, (box.bottom - box.top) * height];
  const shape = keepsShapes && Math.abs(boxWide - boxHigh) > 1 ? "photo" : "square";
  const size = shape === "square" ? Math.min(boxWide, boxHigh) / Math.min(width, height)
    : Math.min(boxWide / width, boxHigh / height);
  const [wide, high] = sidesOf({ size, shape }, width, height);
  const share = (middle, room) => (room > 0.5 ? Math.min(1, Math.max(0, middle / room)) : 0.5);
  const x = share(((box.left + box.right) / 2) * width - wide / 2, width - wide);
  return { size, shape, x, y: share(((box.top + box.bottom) / 2) * height - high / 2, height - high) };
}

function place(element, box) {
  element.style.left = percent(box.left);
  element.style.top = percent(box.top);
  element.style.width = percent(box.right - box.left);
  element.style.height = percent(box.bottom - box.top);
}

const cropOf = (card) => (card.dataset.crop ? JSON.parse(card.dataset.crop) : null);
const sizeOf = (card) => [Number(card.dataset.width), Number(card.dataset.height)];

// On the thumbnail, dim what is left out. The picture is fitted into a square frame, so the box is, too.
export function showCrop(card) {
  const [width, height] = sizeOf(card);
  const mark = $(".crop-mark", card);
  const chosen = cropOf(card);
  const box = keepsShapes && chosen ? chosen : boxOf(handleOf(chosen, width, height), width, height);
  const long = Math.max(width, height);
  const [wide, high] = [width / long, height / long];
  mark.hidden = box.right - box.left > 0.995 && box.bottom - box.top > 0.995;
  place(mark, {
    left: (1 - wide) / 2 + box.left * wide, right: (1 - wide) / 2 + box.right * wide,
    top: (1 - high) / 2 + box.top * high, bottom: (1 - high) / 2 + box.bottom * high,
  });
}

const handle = () => ({
  size: form.elements.size.value / 100, shape: form.elements.shape.value,
  x: form.elements.x.value / 100, y: form.elements.y.value / 100,
});

function draw() {
  place(frame, boxOf(handle(), now.width, now.height));
}

function setHandle({ size, shape, x, y }) {
  form.elements.shape.value = shape;
  for (const [name, value] of Object.entries({ size, x, y })) form.elements[name].value = value * 100;
  draw();
}

export function listenToCrops(grid) {
  for (const card of $$("[data-photo]", grid)) showCrop(card);
  grid.addEventListener("click", (event) => {
    const button = event.target.closest("[data-crop-open]");
    if (!button) return;
    now.card = button.closest("[data-photo]");
    [now.width, now.height] = sizeOf(now.card);
    image.width = now.width;
    image.height = now.height;
    image.src = `/api/photos/${now.card.dataset.photo}/file`;
    image.onerror = () => { image.onerror = null; image.src = $("img", now.card).src; }; // a kind the browser cannot show
    image.alt = $("img", now.card).alt;
    setHandle(handleOf(cropOf(now.card), now.width, now.height));
    dialog.showModal();
  });
}

form.addEventListener("input", draw);
$("[data-whole]", dialog).addEventListener("click", () => setHandle({ ...handle(), ...LARGEST }));

frame.addEventListener("pointerdown", (event) => {
  event.preventDefault();
  frame.setPointerCapture(event.pointerId);
  const start = { ...handle(), clientX: event.clientX, clientY: event.clientY };
  const scale = now.width / image.clientWidth;
  const [wide, high] = sidesOf(start, now.width, now.height);
  const moved = (share, pixels, room) => (room > 0.5 ? Math.min(1, Math.max(0, share + (pixels * scale) / room)) : share);
  const follow = (move) => setHandle({
    size: start.size,
    shape: start.shape,
    x: moved(start.x, move.clientX - start.clientX, now.width - wide),
    y: moved(start.y, move.clientY - start.clientY, now.height - high),
  });
  frame.addEventListener("pointermove", follow);
  frame.addEventListener("lostpointercapture", () => frame.removeEventListener("pointermove", follow), { once: true });
});

onSubmit(form, async () => {
  const chosen = handle();
  const largest = chosen.size === 1 && chosen.x === 0.5 && chosen.y === 0.5;
  const whole = largest && chosen.shape === (keepsShapes ? "photo" : "square"); // what no crop means
  const crop = whole ? null : boxOf(chosen, now.width, now.height);
  const photo = await api("PATCH", `/photos/${now.card.dataset.photo}`, { crop });
  now.card.dataset.crop = photo.crop ? JSON.stringify(photo.crop) : "";
  showCrop(now.card);
  dialog.close();
}, (_, error) => {
  if (!(error instanceof ApiError)) throw error;
  toast(error.message);
});
