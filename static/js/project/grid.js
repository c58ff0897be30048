// The grid: rows of one height, filled from edge to edge; every tile has the shape in which its photo is trained. A tile
// out of view costs nothing (content-visibility), so that a thousand scroll like ten.

import { $, show, write } from "../lib/dom.js";
import { arrange, shown, stackOf } from "./order.js";
import { listenToSelection } from "./select.js";
import { room } from "./state.js";
import { drawTile, makeTile } from "./tile.js";

const list = $("#photos");
const tiles = new Map(); // id -> its element
const isOpen = (id) => shown.open.has(stackOf(id));
const under = (id) => shown.under.get(id)?.length ?? 0;

function tileOf(id) {
  let tile = tiles.get(id);
  if (!tile) {
    tile = makeTile(room.photos.get(id), under(id), isOpen(id));
    tiles.set(id, tile);
  }
  return tile;
}

function redraw(id) {
  const [tile, photo] = [tiles.get(id), room.photos.get(id)];
  if (tile && photo) drawTile(tile, photo, under(id), isOpen(id));
}

// Put the tiles in the order of `room.order`; those that are there already stay where they can.
function drawOrder() {
  const wanted = new Set(room.order);
  for (const tile of [...list.children]) if (!wanted.has(Number(tile.dataset.photo))) tile.remove();
  let next = list.firstElementChild;
  const fresh = document.createDocumentFragment();
  for (const id of room.order) {
    const tile = tileOf(id);
    if (tile === next) next = next.nextElementSibling;
    else if (next) list.insertBefore(tile, next);
    else fresh.append(tile);
  }
  list.append(fresh);
  drawCounts();
  drawChosen();
  drawCurrent();
}

function drawCounts() {
  const number = room.photos.size;
  write($("#photo-count"), number);
  show($("#photo-count"), number > 0);
  for (const part of document.querySelectorAll("[data-with-photos]")) show(part, number > 0);
  $("#room").classList.toggle("empty-room", number === 0);
  show($("#photos-first"), number === 0);
  show($("#none-shown"), number > 0 && room.order.length === 0);
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
  if (drawnCurrent) drawnCurrent.tabIndex = -1;
  drawnCurrent = tiles.get(room.current) ?? null;
  if (!drawnCurrent?.isConnected) drawnCurrent = list.firstElementChild;
  if (drawnCurrent) drawnCurrent.tabIndex = 0;
}

// A photo that changes may have to move, or to go, because of the filter.
function redrawPhotos(ids) {
  const before = room.order.join();
  arrange();
  if (room.order.join() === before) drawCounts();
  ids.forEach(redraw);
}

export const tileElement = (id) => tiles.get(id);

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
  room.on("gone", (ids) => {
    for (const id of ids) { tiles.get(id)?.remove(); tiles.delete(id); }
    arrange();
  });
  room.on("review", () => { arrange(); room.order.forEach(redraw); });
  room.on("chosen", drawChosen);
  room.on("current", () => {
    drawCurrent();
    if (list.contains(document.activeElement)) drawnCurrent?.focus();
  });
  listenToSelection(list, { toggleStack });
  arrange();
}
