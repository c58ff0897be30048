// One picture, large, and its neighbours by arrow key. The caller finds the neighbours, so any grid can use it.

import { $, $$, show } from "./dom.js";

const dialog = document.getElementById("lightbox");
const image = $(".stage img", dialog);
const usualHint = $("[data-hint]", dialog).textContent;
const usualLabels = new Map($$("[data-move]", dialog).map((arrow) => [arrow, arrow.getAttribute("aria-label")]));
const IN_A_ROW = { left: "Previous picture", right: "Next picture" };
const KEYS = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down" };
const press = $("[data-act]", dialog);
const state = { button: null, neighbour: () => null, act: null };

function draw() {
  const source = $("img", state.button);
  image.width = source.naturalWidth || source.width;
  image.height = source.naturalHeight || source.height;
  image.src = source.src;
  image.alt = source.alt;
  $("#lightbox-title", dialog).textContent = state.button.dataset.title ?? source.alt;
  for (const arrow of $$("[data-move]", dialog)) arrow.disabled = !state.neighbour(state.button, arrow.dataset.move);
  drawAct();
}

// The button that does something with the picture.
function drawAct() {
  const { act, button } = state;
  show(press, Boolean(act?.shown(button)));
  if (press.hidden) return;
  press.setAttribute("aria-pressed", act.pressed(button));
  press.setAttribute("aria-label", act.label(button));
}

async function doAct() {
  if (press.hidden) return;
  await state.act.run(state.button);
  state.button = state.act.cell(state.button);
  drawAct();
}

function move(direction) {
  const next = state.neighbour(state.button, direction);
  if (!next) return;
  state.button = next;
  draw();
}

// Open at `button` (which holds an <img>). `neighbour(button, "left" | "right" | "up" | "down")` gives another or null.
// Without a `hint` the pictures are a grid of steps and prompts; with one they are a row, which needs no arrows up and down,
// or, with `labels` by arrow, another grid. `act` has what a starred button does with a picture: {label, shown, pressed, run,
// cell}, each a function of `button`; cell gives the one that stands in its place afterwards.
export function openLightbox(button, neighbour, hint, { labels = null, act = null } = {}) {
  Object.assign(state, { button, neighbour, act });
  $("[data-hint]", dialog).textContent = hint ?? usualHint;
  for (const [arrow, label] of usualLabels) {
    const inRow = IN_A_ROW[arrow.dataset.move];
    show(arrow, !hint || labels !== null || Boolean(inRow));
    arrow.setAttribute("aria-label", labels?.[arrow.dataset.move] ?? (hint && inRow ? inRow : label));
  }
  draw();
  dialog.showModal();
}

dialog.addEventListener("keydown", (event) => {
  if (event.key.toLowerCase() === "s" && !event.ctrlKey && !event.metaKey) doAct();
  if (!KEYS[event.key]) return;
  event.preventDefault();
  move(KEYS[event.key]);
});
dialog.addEventListener("click", (event) => {
  const arrow = event.target.closest("[data-move]");
  if (arrow) move(arrow.dataset.move);
});
press.addEventListener("click", doAct);
dialog.addEventListener("close", () => state.button?.focus());
