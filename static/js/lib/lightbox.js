// One picture, large, and its neighbours by arrow key. The caller finds the neighbours, so any grid can use it.

import { $, $$ } from "./dom.js";

const dialog = document.getElementById("lightbox");
const image = $(".stage img", dialog);
const usualHint = $("[data-hint]", dialog).textContent;
const KEYS = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down" };
const state = { button: null, neighbour: () => null };

function draw() {
  const source = $("img", state.button);
  image.width = source.naturalWidth || source.width;
  image.height = source.naturalHeight || source.height;
  image.src = source.src;
  image.alt = source.alt;
  $("#lightbox-title", dialog).textContent = state.button.dataset.title ?? source.alt;
  for (const arrow of $$("[data-move]", dialog)) arrow.disabled = !state.neighbour(state.button, arrow.dataset.move);
}

function move(direction) {
  const next = state.neighbour(state.button, direction);
  if (!next) return;
  state.button = next;
  draw();
}

// Open at `button` (which holds an <img>). `neighbour(button, "left" | "right" | "up" | "down")` gives another or null.
export function openLightbox(button, neighbour, hint) {
  state.button = button;
  state.neighbour = neighbour;
  $("[data-hint]", dialog).textContent = hint ?? usualHint;
  draw();
  dialog.showModal();
}

dialog.addEventListener("keydown", (event) => {
  if (!KEYS[event.key]) return;
  event.preventDefault();
  move(KEYS[event.key]);
});
dialog.addEventListener("click", (event) => {
  const arrow = event.target.closest("[data-move]");
  if (arrow) move(arrow.dataset.move);
});
dialog.addEventListener("close", () => state.button?.focus());
