// One photo in the grid, drawn as it is trained: its crop fills the tile.

import { $, icon } from "../lib/dom.js";
import { marksOf } from "./findings.js";
import { place, trained } from "./shapes.js";
import { room } from "./state.js";

function mark(name, words, extra = "") {
  const box = document.createElement("span");
  box.className = `mark ${extra}`.trim();
  const text = document.createElement("span");
  text.textContent = words;
  box.append(icon(name), text);
  return box;
}

function build(photo) {
  const tile = document.createElement("li");
  tile.className = "tile";
  tile.id = `tile-${photo.id}`;
  tile.dataset.photo = photo.id;
  tile.setAttribute("role", "option");
  tile.tabIndex = -1;
  const pic = document.createElement("span");
  pic.className = "pic";
  const image = document.createElement("img");
  image.loading = "lazy";
  image.decoding = "async";
  image.draggable = false;
  image.alt = "";
  image.src = photo.thumb_url;
  const frame = document.createElement("span");
  frame.className = "frame";
  pic.append(image, frame);
  const name = document.createElement("span");
  name.className = "name";
  name.textContent = photo.name;
  const choose = document.createElement("span");
  choose.className = "choose";
  choose.append(icon("succeeded"));
  const marks = document.createElement("span");
  marks.className = "marks";
  tile.append(pic, name, choose, marks);
  return tile;
}

// `hidden` is how many photos lie under this one; null where it has no stack.
export function drawTile(tile, photo, under, open) {
  const crops = trained(photo, room.buckets);
  place(tile, photo, crops[0].box);
  tile.classList.toggle("aside", photo.aside);
  tile.classList.toggle("stack", under > 0 && !open);
  const found = marksOf(photo.id);
  const marks = [];
  if (under) {
    const count = mark("stack", String(under + 1), "count-of");
    const more = document.createElement("span");
    more.className = "unseen";
    more.textContent = " of one moment";
    count.append(more);
    count.dataset.stack = "";
    count.title = open ? "Fold this stack (S)" : "Show the stack (S)";
    marks.push(count);
  }
  if (photo.aside) marks.push(mark("aside", "Set aside"));
  for (const one of found) marks.push(mark(one.icon, one.label, "look"));
  if (crops.length > 1) marks.push(mark("crop", `${crops.length} crops`));
  $(".marks", tile).replaceChildren(...marks);
}

export function makeTile(photo, under, open) {
  const tile = build(photo);
  drawTile(tile, photo, under, open);
  return tile;
}
