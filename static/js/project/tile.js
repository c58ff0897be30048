// One photo in the grid, drawn as it is trained: its crop fills the tile.

import { $, icon } from "../lib/dom.js";
import { marksOf } from "./findings.js";
import { place, trained } from "./shapes.js";
import { room } from "./state.js";

const WORDS_PX = 144; // in a narrower tile a sign has no word beside it

function mark(name, words, extra = "") {
  const box = document.createElement("span");
  box.className = `mark ${extra}`.trim();
  const text = document.createElement("span");
  text.textContent = words;
  box.append(icon(name), text);
  return box;
}

// One of which all are copies: a frame of fast scrolling may make forty.
const blank = document.createElement("li");
blank.className = "tile";
blank.tabIndex = -1;
blank.setAttribute("role", "option");
blank.innerHTML = '<span class="pic"><img alt="" loading="lazy" decoding="async" draggable="false"><span class="frame"></span></span><span class="name"></span><span class="choose"></span><span class="marks"></span>';
$(".choose", blank).append(icon("succeeded"));

// Where it lies in the grid, in pixels.
export function putTile(tile, { left, top, width, height }) {
  Object.assign(tile.style, { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px` });
  tile.classList.toggle("small", width < WORDS_PX);
}

export function loadPicture(tile, photo) {
  $("img", tile).src = photo.thumb_url;
}

// `under` is how many photos lie under this one.
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
  const box = $(".marks", tile);
  if (marks.length || box.childElementCount) box.replaceChildren(...marks);
}

// Without its picture: `loadPicture` asks for it.
export function makeTile(photo, under, open) {
  const tile = blank.cloneNode(true);
  tile.id = `tile-${photo.id}`;
  tile.dataset.photo = photo.id;
  $(".name", tile).textContent = photo.name;
  drawTile(tile, photo, under, open);
  return tile;
}
