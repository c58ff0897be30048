// One picture, large, and its neighbours by arrow key. The caller finds the neighbours, so any grid can use it.

import { $, $$, show } from "./dom.js";

const dialog = document.getElementById("lightbox");
const image = $(".stage img", dialog);
const usualHint = $("[data-hint]", dialog).textContent;
const usualLabels = new Map($$("[data-move]", dialog).map((arrow) => [arrow, arrow.getAttribute("aria-label")]));
const IN_A_ROW = { left: "Previous picture", right: "Next picture" };
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
// Without a `hint` the pictures are a grid of steps and prompts; with one they are a row, which needs no arrows up and down.
export function openLightbox(button, neighbour, hint) {
  state.button = button;
  state.neighbour = neighbour;
  $("[data-hint]", dialog).textContent = hint ?? usualHint;
  for (const [arrow, label] of usualLabels) {
    const inRow = IN_A_ROW[arrow.dataset.move];
    show(arrow, !hint || Boolean(inRow));
    arrow.setAttribute("aria-label", hint && inRow ? inRow : label);
  }
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
