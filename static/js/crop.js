// Which part of a photo counts. Training sees a square: the largest in the middle, unless the user chose another.
// The dialog has three sliders, so the keyboard can do all that dragging the square can.

import { ApiError, api } from "./api.js";
import { $, $$, toast } from "./dom.js";
import { onSubmit } from "./forms.js";

const dialog = document.getElementById("crop");
const form = $("form", dialog);
const image = $("img", dialog);
const square = $(".crop-square", dialog);
const now = { card: null, width: 1, height: 1 };

const percent = (fraction) => `${(fraction * 100).toFixed(3)}%`;

// {size, x, y} in 0..1 (size: share of the short side; x, y: share of the room that is left)  ->  a box in fractions
function boxOf({ size, x, y }, width, height) {
  const side = size * Math.min(width, height);
  const left = (x * (width - side)) / width;
  const top = (y * (height - side)) / height;
  return { left, top, right: left + side / width, bottom: top + side / height };
}

// The other way round; without a box, the largest square in the middle.
function handleOf(box, width, height) {
  if (!box) return { size: 1, x: 0.5, y: 0.5 };
  const side = Math.min((box.right - box.left) * width, (box.bottom - box.top) * height);
  const left = ((box.left + box.right) / 2) * width - side / 2;
  const top = ((box.top + box.bottom) / 2) * height - side / 2;
  const share = (start, room) => (room > 0.5 ? Math.min(1, Math.max(0, start / room)) : 0.5);
  return { size: side / Math.min(width, height), x: share(left, width - side), y: share(top, height - side) };
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
  const box = boxOf(handleOf(cropOf(card), width, height), width, height);
  const long = Math.max(width, height);
  const [wide, high] = [width / long, height / long];
  mark.hidden = box.right - box.left > 0.995 && box.bottom - box.top > 0.995;
  place(mark, {
    left: (1 - wide) / 2 + box.left * wide, right: (1 - wide) / 2 + box.right * wide,
    top: (1 - high) / 2 + box.top * high, bottom: (1 - high) / 2 + box.bottom * high,
  });
}

const handle = () => ({ size: form.elements.size.value / 100, x: form.elements.x.value / 100, y: form.elements.y.value / 100 });

function draw() {
  place(square, boxOf(handle(), now.width, now.height));
}

function setHandle({ size, x, y }) {
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
$("[data-whole]", dialog).addEventListener("click", () => setHandle({ size: 1, x: 0.5, y: 0.5 }));

square.addEventListener("pointerdown", (event) => {
  event.preventDefault();
  square.setPointerCapture(event.pointerId);
  const start = { ...handle(), clientX: event.clientX, clientY: event.clientY };
  const scale = now.width / image.clientWidth;
  const side = start.size * Math.min(now.width, now.height);
  const moved = (share, pixels, room) => (room > 0.5 ? Math.min(1, Math.max(0, share + (pixels * scale) / room)) : share);
  const follow = (move) => setHandle({
    size: start.size,
    x: moved(start.x, move.clientX - start.clientX, now.width - side),
    y: moved(start.y, move.clientY - start.clientY, now.height - side),
  });
  square.addEventListener("pointermove", follow);
  square.addEventListener("lostpointercapture", () => square.removeEventListener("pointermove", follow), { once: true });
});

onSubmit(form, async () => {
  const chosen = handle();
  const whole = chosen.size === 1 && chosen.x === 0.5 && chosen.y === 0.5;
  const crop = whole ? null : boxOf(chosen, now.width, now.height);
  const photo = await api("PATCH", `/photos/${now.card.dataset.photo}`, { crop });
  now.card.dataset.crop = photo.crop ? JSON.stringify(photo.crop) : "";
  showCrop(now.card);
  dialog.close();
}, (_, error) => {
  if (!(error instanceof ApiError)) throw error;
  toast(error.message);
});
