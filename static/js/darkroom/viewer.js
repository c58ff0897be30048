// One picture on the whole screen: its recipe beside it, the others of its drawing below it, and a wipe against any of them, or
// against the picture that was looked at before.

import { ApiError, api } from "../lib/api.js";
import { $, $$, show, write } from "../lib/dom.js";
import { setImage, setWipe } from "../lib/wipe.js";
import { room } from "./state.js";
import { element, tagOf } from "./tiles.js";

const HALF = 50;
const ALIKE_AT_MOST = 40; // pictures to wipe against
const dialog = $("#viewer");
const box = $("#viewer-box");
const plate = $("#viewer-plate");
const against = $("#viewer-against");
const view = { id: null, before: null, share: 0, order: () => [], closed: () => {}, recipe: null };
let use = () => {};

const here = () => room.pictures.get(view.id);
const nameOf = ({ picture, drawing }) => tagOf(drawing, picture) || picture.label;

function draw() {
  const { picture, drawing } = here();
  write($("#viewer-title"), picture.prompt || drawing.prompt);
  write($("#viewer-words"), [nameOf(here()), `seed ${picture.seed}`, drawing.drawn_with].filter((one, at, all) => all.indexOf(one) === at).join(" · "));
  plate.style.setProperty("--ratio", picture.width / picture.height);
  setImage($(".now", plate), picture.url, `${drawing.prompt}, ${nameOf(here())}`);
  const heart = $("#viewer-favourite");
  heart.setAttribute("aria-pressed", picture.favourite);
  Object.assign($("#viewer-save"), { href: picture.url, download: picture.file_name });
  drawChoices();
  drawOther();
  drawLadder(drawing);
  drawSteps();
  fetchAround();
}

function drawSteps() {
  const order = view.order();
  const at = order.indexOf(view.id);
  $("#viewer-before").disabled = at <= 0;
  $("#viewer-after").disabled = at < 0 || at === order.length - 1;
}

// ---- the wipe ----

// The others of its drawing, those of the same prompt and seed, and the one before.
function alike() {
  const { picture, drawing } = here();
  const found = new Map(drawing.pictures.filter(({ id }) => id !== view.id).map((each) => [each.id, nameOf({ picture: each, drawing })]));
  if (view.before !== null && view.before !== view.id && room.pictures.has(view.before) && !found.has(view.before)) {
    found.set(view.before, `the one before: ${nameOf(room.pictures.get(view.before))}`);
  }
  for (const [id, each] of room.pictures) {
    if (found.size >= ALIKE_AT_MOST) break;
    const same = each.drawing.prompt === drawing.prompt && each.picture.seed === picture.seed;
    if (same && id !== view.id && !found.has(id)) found.set(id, `${each.picture.label}, ${each.drawing.drawn_with}`);
  }
  return found;
}

// First the one without adapters from the same noise, which shows what the adapter does.
function firstChoice(found) {
  const { picture, drawing } = here();
  const kept = Number(against.value);
  if (found.has(kept) && room.pictures.get(kept).drawing === drawing && room.pictures.get(kept).picture.seed === picture.seed) return kept;
  const plain = drawing.pictures.find((each) => each.label === "without" && each.seed === picture.seed && each.id !== view.id);
  return plain?.id ?? (found.has(view.before) ? view.before : [...found.keys()][0] ?? null);
}

function drawChoices() {
  const found = alike();
  const chosen = firstChoice(found);
  against.replaceChildren(...(found.size ? [...found].map(([id, words]) => new Option(words, id)) : [new Option("no other picture", "")]));
  against.value = chosen ?? "";
  against.disabled = !found.size;
}

function drawOther() {
  const other = room.pictures.get(Number(against.value));
  plate.classList.toggle("single", !other);
  const before = $(".before", plate);
  show(before, Boolean(other));
  if (other) setImage(before, other.picture.url, `${nameOf(other)}, to compare`);
  write($(".tag.l", plate), other ? nameOf(other) : "");
  write($(".tag.r", plate), nameOf(here()));
  $(".wipe", plate).dataset.other = other ? nameOf(other) : "";
  wipe(other ? view.share : 0);
}

function wipe(share) {
  view.share = share;
  setWipe(box, share);
}

// ---- the ladder: the pictures of its drawing ----

function drawLadder(drawing) {
  const ladder = $("#ladder");
  const key = drawing.pictures.map(({ id }) => id).join();
  if (ladder.dataset.key !== key) {
    ladder.dataset.key = key;
    ladder.replaceChildren(...(drawing.pictures.length > 1 ? drawing.pictures : []).map((picture) => {
      const rung = element("button", "");
      rung.type = "button";
      rung.dataset.rung = picture.id;
      const image = element("img", "");
      Object.assign(image, { src: picture.thumb_url, alt: "", loading: "lazy", width: picture.width, height: picture.height });
      rung.append(image, element("span", "", tagOf(drawing, picture) || picture.label));
      return rung;
    }));
  }
  for (const rung of $$("[data-rung]", ladder)) {
    const chosen = Number(rung.dataset.rung) === view.id;
    rung.setAttribute("aria-pressed", chosen);
    if (chosen) rung.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
}

// ---- the recipe ----

async function drawRecipe() {
  const id = view.id;
  view.recipe = null;
  $("#viewer-use").disabled = true;
  let recipe;
  try {
    recipe = await api("GET", `/pictures/${id}/recipe`);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    recipe = { lines: [], form: null, problems: [error.message] };
  }
  if (id !== view.id) return;
  view.recipe = recipe.form;
  const { drawing } = here();
  $("#viewer-use").disabled = !recipe.form;
  $("#viewer-again").disabled = !recipe.form;
  write($("#viewer-problems"), recipe.problems.length ? `It cannot be drawn again here. ${recipe.problems.join(" ")}` : "");
  $("#viewer-recipe").replaceChildren(...[{ label: "Drawn", value: drawing.words }, ...recipe.lines].flatMap(({ label, value }) => [element("dt", "", label), element("dd", "", value)]));
}

// ---- going on ----

function go(id) {
  if (id === undefined || id === null || id === view.id || !room.pictures.has(id)) return;
  view.before = view.id;
  view.id = id;
  draw();
  drawRecipe();
}

function move(way) {
  const order = view.order();
  go(order[order.indexOf(view.id) + way]);
}

// The pictures before and after are there before they are asked for.
function fetchAround() {
  const order = view.order();
  const at = order.indexOf(view.id);
  for (const id of [order[at - 1], order[at + 1]]) {
    const next = room.pictures.get(id);
    if (next) new Image().src = next.picture.url;
  }
}

function remove() {
  const order = view.order();
  const at = order.indexOf(view.id);
  const next = order[at + 1] ?? order[at - 1];
  const gone = view.id;
  if (next === undefined) dialog.close();
  else go(next);
  room.remove(gone);
}

function take() {
  const { recipe } = view;
  if (!recipe) return;
  view.closed = () => use(recipe); // once it is closed: the form gets the keyboard
  dialog.close();
}

const KEYS = {
  ArrowLeft: () => move(-1),
  ArrowRight: () => move(1),
  f: () => room.favourite(view.id),
  w: () => wipe(view.share ? 0 : HALF),
  a: () => !$("#viewer-again").disabled && room.again(view.id),
  u: take,
  Delete: remove,
  Backspace: remove,
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const inField = event.target.matches("select, input");
  const act = KEYS[event.key];
  if (!act || (inField && (event.key.startsWith("Arrow") || event.target.matches("select")))) return;
  event.preventDefault();
  act();
}

// Open at a picture. `order()` lists the ids that the arrow keys go through, `closed(id)` gets the last one shown.
export function openViewer(id, order, closed) {
  Object.assign(view, { id, before: null, share: 0, order, closed });
  draw();
  drawRecipe();
  dialog.showModal();
  box.focus();
}

// `onUse(form)` fills the form with a recipe.
export function startViewer(onUse) {
  use = onUse;
  dialog.addEventListener("keydown", onKey);
  dialog.addEventListener("close", () => view.closed(view.id));
  $("#viewer-before").addEventListener("click", () => move(-1));
  $("#viewer-after").addEventListener("click", () => move(1));
  $("#viewer-favourite").addEventListener("click", () => room.favourite(view.id));
  $("#viewer-delete").addEventListener("click", remove);
  $("#viewer-again").addEventListener("click", () => room.again(view.id));
  $("#viewer-use").addEventListener("click", take);
  $("#ladder").addEventListener("click", (event) => go(Number(event.target.closest("[data-rung]")?.dataset.rung)));
  $(".wipe", plate).addEventListener("input", ({ target }) => wipe(Number(target.value)));
  against.addEventListener("change", () => { drawOther(); wipe(HALF); });
  room.on("drawings", () => {
    if (!dialog.open) return;
    if (room.pictures.has(view.id)) draw();
    else dialog.close();
  });
}
