// All that was drawn, the newest first: rows of equal height, each picture in its shape. Pictures of one prompt that follow one
// another share a heading. Pictures are loaded as they come into view, and what has not changed stays (its elements are kept by
// the text of what they show), so a thousand pictures scroll like ten.

import { $, $$, show, write } from "../lib/dom.js";
import { room } from "./state.js";
import { drawingHead, element, pictureTile, placeTile, tagOf } from "./tiles.js";
import { openViewer } from "./viewer.js";

const NEAR = 60; // pictures looked at for the one above or below
const box = $("#gallery");
const sections = new Map(); // key -> {section, of: the text of what it shows}
const tiles = new Map(); // picture -> {tile, of}
let current = null; // the picture that the keyboard is at
let use = () => {};
let openGrid = () => {};

// ---- what is shown ----

const isPlain = ({ drawing, places }) => !places.length && !drawing.can_stop && !drawing.error && !drawing.grid;

// Neighbours that are done and have the same prompt and adapters go together.
function groups() {
  const found = [];
  for (const each of room.shown) {
    const last = found.at(-1);
    const { drawing } = each;
    const same = last && isPlain(last[0]) && isPlain(each) && last[0].drawing.prompt === drawing.prompt && last[0].drawing.drawn_with === drawing.drawn_with;
    if (same) last.push(each);
    else found.push([each]);
  }
  return found;
}

// A picture that has not changed keeps its element, and so what is loaded, also when it goes to another section.
function tileFor(drawing, picture) {
  const of = JSON.stringify([picture, drawing.prompt, tagOf(drawing, picture)]);
  const known = tiles.get(picture.id);
  if (known?.of === of) return known.tile;
  const tile = pictureTile(drawing, picture);
  tiles.set(picture.id, { tile, of });
  return tile;
}

function makeSection(group) {
  const [{ drawing }] = group;
  const section = element("section", "drawing");
  section.dataset.job = drawing.job_id;
  section.dataset.state = drawing.state;
  const count = group.reduce((sum, { pictures }) => sum + pictures.length, 0);
  const head = drawingHead(drawing, count);
  $("h3", head).id = `drawing-${drawing.job_id}`;
  section.setAttribute("aria-labelledby", `drawing-${drawing.job_id}`);
  section.append(head);
  if (drawing.error) section.append(element("p", "error", drawing.error));
  const list = element("ul", "pictures");
  for (const { drawing: of, pictures, places } of group) {
    list.append(...pictures.map((picture) => tileFor(of, picture)));
    list.append(...places.map((place, at) => placeTile(of, place, at === 0)));
  }
  section.append(list);
  const shapes = [...list.children].map((tile) => Number(tile.style.getPropertyValue("--ratio")));
  section.style.setProperty("--wide", shapes.reduce((sum, ratio) => sum + ratio, 0)); // in heights of a row
  section.style.setProperty("--gaps", Math.max(shapes.length - 1, 0));
  return section;
}

function draw() {
  const focused = box.contains(document.activeElement) ? document.activeElement.dataset.picture : null;
  const inside = box.contains(document.activeElement);
  const wanted = groups().map((group) => {
    const key = group.at(-1).drawing.job_id; // the oldest: newer ones join it
    const of = JSON.stringify(group);
    const known = sections.get(key);
    if (known?.of === of) return [key, known];
    const made = { section: makeSection(group), of };
    if (known) known.section.replaceWith(made.section);
    return [key, made];
  });
  const keys = new Set(wanted.map(([key]) => key));
  for (const [key, { section }] of sections) if (!keys.has(key)) { section.remove(); sections.delete(key); }
  wanted.forEach(([key, made], place) => {
    sections.set(key, made);
    if (box.children[place] !== made.section) box.insertBefore(made.section, box.children[place] ?? null);
  });
  for (const id of tiles.keys()) if (!room.pictures.has(id)) tiles.delete(id);
  drawCounts(wanted.length);
  drawCurrent();
  if (focused && tileOf(focused)) tileOf(focused).focus({ preventScroll: true });
  else if (inside && !box.contains(document.activeElement)) (tileOf(current) ?? $("#history-title")).focus({ preventScroll: true });
}

function drawCounts(count) {
  const all = room.pictures.size;
  const loved = [...room.pictures.values()].filter(({ picture }) => picture.favourite).length;
  write($("#all-count"), all);
  write($("#favourite-count"), loved);
  show($("#no-drawings"), !room.drawings.size);
  const none = room.drawings.size > 0 && !count;
  show($("#none-found"), none);
  if (none) write($("#none-found"), room.terms.length ? `No picture has “${$("#search").value.trim()}” in its prompt, adapters, model, strength or seed.` : "No favourites yet. Press F on a picture to make it one.");
}

// ---- the keyboard ----

const tileOf = (id) => (id === null ? null : $(`[data-picture="${id}"]`, box));

// One picture at a time can be reached with Tab; the arrow keys go to the others.
function drawCurrent() {
  const order = room.order;
  if (!order.includes(current)) current = order[0] ?? null;
  for (const other of $$('[data-picture][tabindex="0"]', box)) other.tabIndex = -1;
  const tile = tileOf(current);
  if (tile) tile.tabIndex = 0;
}

export function focusPicture(id) {
  current = id;
  drawCurrent();
  tileOf(id)?.focus();
}

// The picture above or below: the nearest middle in the next row.
function vertical(order, at, down) {
  const here = tileOf(order[at]).getBoundingClientRect();
  const [x, y] = [here.left + here.width / 2, here.top];
  let best = null;
  for (const id of down ? order.slice(at + 1, at + NEAR) : order.slice(Math.max(at - NEAR, 0), at)) {
    const there = tileOf(id).getBoundingClientRect();
    const away = (there.top - y) * (down ? 1 : -1);
    if (away < 2) continue;
    const far = away * 4 + Math.abs(there.left + there.width / 2 - x);
    if (!best || far < best.far) best = { far, id };
  }
  return best?.id ?? null;
}

function onKey(event) {
  const id = Number(event.target.dataset?.picture);
  if (!id || event.ctrlKey || event.metaKey || event.altKey) return;
  current = id;
  const order = room.order;
  const at = order.indexOf(id);
  const to = { ArrowLeft: () => order[at - 1], ArrowRight: () => order[at + 1], ArrowUp: () => vertical(order, at, false), ArrowDown: () => vertical(order, at, true), Home: () => order[0], End: () => order.at(-1) }[event.key];
  const act = { f: () => room.favourite(id), Delete: () => remove(id), Backspace: () => remove(id), a: () => room.again(id) }[event.key];
  if (!to && !act) return;
  event.preventDefault();
  if (act) act();
  else if (to() !== null && to() !== undefined) focusPicture(to());
}

// The keyboard goes on at the next picture.
function remove(id) {
  const order = room.order;
  const at = order.indexOf(id);
  current = order[at + 1] ?? order[at - 1] ?? null;
  room.remove(id);
}

// ---- the mouse ----

function onClick(event) {
  const press = event.target.closest("button");
  if (!press) return;
  const job = Number(press.closest("[data-job]").dataset.job);
  if (press.dataset.picture) {
    current = Number(press.dataset.picture);
    drawCurrent();
    openViewer(current, () => room.order, focusPicture);
  } else if ("stop" in press.dataset) room.stop(job);
  else if ("dismiss" in press.dataset) room.dismiss(job);
  else if ("use" in press.dataset) use(room.drawings.get(job).form);
  else if ("openGrid" in press.dataset) openGrid(room.drawings.get(job).grid);
}

function listenToFilter() {
  const search = $("#search");
  const only = $$("[data-only]");
  const apply = () => room.show(search.value, $('[data-only="favourites"]').getAttribute("aria-pressed") === "true");
  search.addEventListener("input", apply);
  for (const one of only) {
    one.addEventListener("click", () => {
      for (const other of only) other.setAttribute("aria-pressed", other === one);
      apply();
    });
  }
  $("#dense").addEventListener("click", ({ currentTarget }) => {
    currentTarget.setAttribute("aria-pressed", box.classList.toggle("dense"));
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target.closest("input, textarea, select, dialog")) return;
    event.preventDefault();
    search.focus();
  });
}

// `on.use(form)` fills the form, `on.openGrid(id)` shows a grid.
export function startGallery(on) {
  ({ use, openGrid } = on);
  room.on("drawings", draw);
  box.addEventListener("click", onClick);
  box.addEventListener("keydown", onKey);
  box.addEventListener("focusin", ({ target }) => { if (target.dataset.picture) { current = Number(target.dataset.picture); drawCurrent(); } });
  listenToFilter();
  draw();
}
