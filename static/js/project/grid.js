// The grid. Only the tiles of the rows in view, and of a screen on either side, are in the document; where each lies is computed
// (rows.js). So a thousand photos scroll like ten: a frame adds and removes a few tiles, and lays out nothing else.

import { $, show, write } from "../lib/dom.js";
import { arrange, shown, stackOf } from "./order.js";
import { layOut } from "./rows.js";
import { listenToSelection } from "./select.js";
import { shapeOf, trained } from "./shapes.js";
import { room } from "./state.js";
import { drawTile, loadPicture, makeTile, putTile } from "./tile.js";

const ALL_AT_ONCE = 120; // so few photos are all in the document: finding a name in the page works, and costs nothing
const ADD_RATIO = 0.85; // of the first tile, which takes new photos
const FAST = 0.7; // of a screen in one frame: nobody sees photos that pass so quickly, so they are not loaded
const PAUSE_MS = 90;

const grid = $("#grid");
const list = $("#photos");
const add = $(".tile.add", grid);
const tiles = new Map(); // id -> its element, of those in the document
const without = new Set(); // ids of tiles whose picture is not asked for yet
let frame = { width: innerWidth, size: 176, gap: 8, top: 0 };
let rows = layOut([], frame, ADD_RATIO);
let hinted = new Set(); // ids
let lastY = scrollY;
let pause = null;

const isOpen = (id) => shown.open.has(stackOf(id));
const under = (id) => shown.under.get(id)?.length ?? 0;

const trainedRatios = new WeakMap(); // of photos: they are replaced when they change
function ratioOf(photo) {
  if (grid.classList.contains("whole")) return photo.width / photo.height;
  if (!trainedRatios.has(photo)) trainedRatios.set(photo, shapeOf(photo, trained(photo, room.buckets)[0].box));
  return trainedRatios.get(photo);
}

// ---- where the tiles lie ----

// Read once after each layout of the page, never while it scrolls. Returns whether the rows have to be made anew.
function measure() {
  if (!grid.clientWidth) return false; // hidden: as it was
  const style = getComputedStyle(grid);
  const before = frame;
  frame = { width: grid.clientWidth, size: parseFloat(style.getPropertyValue("--size")), gap: parseFloat(style.columnGap), top: grid.getBoundingClientRect().top + scrollY };
  return frame.width !== before.width || frame.size !== before.size || frame.gap !== before.gap;
}

function makeRows() {
  const items = room.order.map((id) => ({ id, ratio: ratioOf(room.photos.get(id)) }));
  rows = layOut(items, frame, ADD_RATIO);
  const empty = room.photos.size === 0;
  grid.style.height = empty ? "" : `${rows.height}px`;
  if (empty) add.removeAttribute("style");
  else putTile(add, rows.lead);
  for (const [id, tile] of tiles) if (rows.places.has(id)) putTile(tile, rows.places.get(id));
}

// With other sizes: what one looks at stays where it is.
function resize() {
  const above = scrollY - frame.top;
  const first = above > 0 ? rows.rows[rows.at(above)]?.places[0] : null;
  const offset = first ? first.top - above : 0;
  makeRows();
  const now = first && rows.places.get(first.id);
  if (now) scrollTo(0, now.top - offset + frame.top);
  drawWindow();
}

// ---- the tiles in the document ----

function wantedIds() {
  if (room.order.length <= ALL_AT_ONCE) return room.order;
  const top = scrollY - frame.top;
  const ids = rows.between(top - innerHeight, top + 2 * innerHeight);
  if (room.current === null || !rows.places.has(room.current) || ids.includes(room.current)) return ids;
  const before = !ids.length || rows.places.get(room.current).top < rows.places.get(ids[0]).top;
  return before ? [room.current, ...ids] : [...ids, room.current]; // it may have the keyboard's focus
}

function makeAt(id, at) {
  const tile = makeTile(room.photos.get(id), under(id), isOpen(id));
  putTile(tile, rows.places.get(id));
  tile.setAttribute("aria-selected", String(room.chosen.has(id)));
  tile.classList.toggle("hinted", hinted.has(id));
  number(tile, at);
  tiles.set(id, tile);
  without.add(id);
  return tile;
}

// Of how many it is which: those out of view are not there to be counted.
function number(tile, at) {
  tile.setAttribute("aria-posinset", at + 1);
  tile.setAttribute("aria-setsize", room.order.length);
}

// Put the tiles in view into the document, in the order of `room.order`; those that are there already stay where they are.
function drawWindow(renumber = false) {
  const ids = wantedIds();
  const wanted = new Set(ids);
  for (const [id, tile] of tiles) if (!wanted.has(id)) { tile.remove(); tiles.delete(id); without.delete(id); }
  const start = ids.length ? room.order.indexOf(ids[0]) : 0;
  let next = list.firstElementChild;
  let at = start;
  for (const id of ids) {
    if (room.order[at] !== id) at = room.order.indexOf(id);
    const tile = tiles.get(id) ?? makeAt(id, at);
    if (renumber) number(tile, at);
    if (tile === next) next = next.nextElementSibling;
    else list.insertBefore(tile, next);
    at += 1;
  }
  drawCurrent();
}

function loadPictures() {
  pause = null;
  for (const id of without) loadPicture(tiles.get(id), room.photos.get(id));
  without.clear();
}

function onScroll() {
  const [y, before] = [scrollY, lastY];
  lastY = y;
  if (room.order.length > ALL_AT_ONCE) drawWindow();
  clearTimeout(pause);
  if (Math.abs(y - before) > FAST * innerHeight) pause = setTimeout(loadPictures, PAUSE_MS);
  else loadPictures();
}

function drawCounts() {
  const count = room.photos.size;
  write($("#photo-count"), count);
  show($("#photo-count"), count > 0);
  for (const part of document.querySelectorAll("[data-with-photos]")) show(part, count > 0);
  $("#room").classList.toggle("empty-room", count === 0);
  show($("#photos-first"), count === 0);
  show($("#none-shown"), count > 0 && room.order.length === 0);
}

// ---- what changes ----

let places = new Map(); // id -> its place in the order that was drawn last

function drawOrder() {
  const focused = list.contains(document.activeElement);
  const at = places.get(room.current) ?? 0;
  drawCounts();
  makeRows();
  drawWindow(true);
  loadPictures();
  places = new Map(room.order.map((id, place) => [id, place]));
  const seen = [...room.chosen].filter((id) => places.has(id));
  if (seen.length < room.chosen.size) room.choose(seen); // what is not shown must not be acted on
  if (!focused || !room.order.length) return;
  if (places.has(room.current)) tiles.get(room.current)?.focus({ preventScroll: true });
  else focusTile(room.order[Math.min(at, room.order.length - 1)]); // the keyboard goes on where the photo was
}

function redraw(id) {
  const [tile, photo] = [tiles.get(id), room.photos.get(id)];
  if (tile && photo) drawTile(tile, photo, under(id), isOpen(id));
}

// A photo that changes may have to move, or to go, because of the filter; another crop changes the rows.
function redrawPhotos(ids) {
  const before = room.order.join();
  const stacked = ids.map(stackOf);
  arrange({ quietly: true });
  const reshaped = (place, id) => place && Math.abs(place.width / place.height - ratioOf(room.photos.get(id))) > 1e-3;
  if (room.order.join() !== before || ids.some((id) => reshaped(rows.places.get(id), id))) room.emit("shown");
  else drawCounts();
  for (const id of new Set([...ids, ...stacked, ...ids.map(stackOf)])) redraw(id);
}

let drawnChosen = new Set();
function drawChosen() {
  for (const id of drawnChosen) if (!room.chosen.has(id)) tiles.get(id)?.setAttribute("aria-selected", "false");
  for (const id of room.chosen) tiles.get(id)?.setAttribute("aria-selected", "true");
  drawnChosen = new Set(room.chosen);
  list.classList.toggle("selecting", room.chosen.size > 0);
}

let drawnCurrent = null;
function drawCurrent() {
  const now = tiles.get(room.current) ?? list.firstElementChild;
  if (now === drawnCurrent) return;
  if (drawnCurrent) drawnCurrent.tabIndex = -1;
  drawnCurrent = now;
  if (now) now.tabIndex = 0;
}

// Mark these photos for as long as a finding about them is pointed at.
export function hint(ids) {
  for (const id of hinted) tiles.get(id)?.classList.remove("hinted");
  hinted = new Set(ids);
  for (const id of hinted) tiles.get(id)?.classList.add("hinted");
}

// Give the photo, or the stack that it lies in, the keyboard; brings it into view.
export function focusTile(id, options = {}) {
  const which = rows.places.has(id) ? id : stackOf(id);
  if (which === null || !rows.places.has(which)) return;
  room.focus(which);
  if (!tiles.has(which)) drawWindow();
  tiles.get(which)?.focus(options);
}

// Fold or unfold the stack that the photo is in.
export function toggleStack(id) {
  const first = stackOf(id);
  if (first === null) return;
  if (!shown.open.delete(first)) shown.open.add(first);
  arrange();
  for (const each of [first, ...shown.under.get(first)]) redraw(each);
}

export function startGrid() {
  room.on("shown", drawOrder);
  room.on("photos", redrawPhotos);
  room.on("gone", () => arrange());
  room.on("review", () => { arrange(); for (const id of tiles.keys()) redraw(id); });
  room.on("chosen", drawChosen);
  room.on("current", () => {
    if (tiles.has(room.current)) drawCurrent();
    else { drawWindow(); loadPictures(); }
    if (list.contains(document.activeElement)) drawnCurrent?.focus();
  });
  room.on("layout", () => { measure(); resize(); loadPictures(); });
  listenToSelection(list, { toggleStack, focusTile, vertical: (id, down) => rows.vertical(id, down), within: (box) => rows.within(box) });
  const measured = new ResizeObserver(() => requestAnimationFrame(() => { if (measure()) resize(); else drawWindow(); loadPictures(); }));
  for (const part of [grid, $("#room")]) measured.observe(part); // the room's height changes with whatever stands above
  addEventListener("scroll", onScroll, { passive: true });
  measure();
  arrange();
}
