// All captions, one below the other, with the photo of the line at hand large beside them.

import { $, $$, show, write } from "../lib/dom.js";
import { toggleEarlier } from "./caption_history.js";
import { typed } from "./captions.js";
import { shown } from "./order.js";
import { place, trained } from "./shapes.js";
import { room } from "./state.js";

const list = $("#lines");
const lines = new Map(); // id -> {line, field}
let visible = false;
let large = null;
let openPhoto = () => {};

function makeLine(photo) {
  const line = document.createElement("li");
  line.dataset.photo = photo.id;
  const open = document.createElement("button");
  open.type = "button";
  open.className = "thumb";
  open.setAttribute("aria-label", `Open ${photo.name}`);
  open.onclick = () => openPhoto(photo.id);
  const image = new Image();
  image.loading = "lazy";
  image.src = photo.thumb_url;
  image.alt = "";
  open.append(image);
  const words = document.createElement("div");
  const field = document.createElement("textarea");
  field.maxLength = 2000;
  field.rows = 2;
  field.placeholder = room.template;
  field.setAttribute("aria-label", `Caption of ${photo.name}`);
  const saved = document.createElement("p");
  saved.className = "saved";
  const before = document.createElement("button");
  before.type = "button";
  before.className = "link-button small before";
  before.textContent = "Earlier";
  before.setAttribute("aria-label", `Earlier words of ${photo.name}`);
  const earlier = document.createElement("ul");
  earlier.className = "earlier";
  earlier.hidden = true;
  before.onclick = () => toggleEarlier(earlier, photo.id);
  const under = document.createElement("div");
  under.className = "under";
  under.append(saved, before);
  words.append(field, under, earlier);
  line.append(open, words);
  typed.listen(field, saved);
  field.addEventListener("focus", () => drawLarge(photo.id));
  line.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && !list.contains(document.activeElement) && drawLarge(photo.id));
  return { line, field };
}

function drawLine(photo) {
  if (!lines.has(photo.id)) lines.set(photo.id, makeLine(photo));
  const { line, field } = lines.get(photo.id);
  line.classList.toggle("aside", photo.aside);
  typed.show(field, photo);
  return line;
}

function drawLarge(id) {
  const photo = room.photos.get(id);
  if (!photo) return;
  large = id;
  room.focus(id);
  const pic = $("#look-pic");
  place(pic, photo, trained(photo, room.buckets)[0].box);
  const image = $("img", pic);
  image.onerror = () => { image.onerror = null; image.src = photo.thumb_url; };
  image.src = photo.file_url;
  image.alt = photo.name;
  write($("#look-name"), `${photo.name}, ${photo.width} × ${photo.height}`);
  for (const line of $$(".now", list)) line.classList.remove("now");
  lines.get(id)?.line.classList.add("now");
}

function drawAll() {
  if (!visible) return;
  const ids = room.order.flatMap((id) => (shown.open.has(id) ? [id] : [id, ...(shown.under.get(id) ?? [])]));
  const wanted = [...new Set(ids)].map((id) => drawLine(room.photos.get(id)));
  wanted.forEach((line, place) => { // a line that stays is not moved: somebody may be typing in it
    if (list.children[place] !== line) list.insertBefore(line, list.children[place] ?? null);
  });
  while (list.children.length > wanted.length) list.lastElementChild.remove();
  if (!room.photos.has(large) && ids.length) drawLarge(ids[0]);
  show($("#captions-view"), true);
}

export function showCaptions(on) {
  visible = on;
  if (!on) return;
  const now = room.current;
  large = null;
  drawAll();
  if (now && room.photos.has(now)) drawLarge(now);
}

export function startCaptionList(open) {
  openPhoto = open;
  room.on("shown", drawAll);
  room.on("photos", (ids) => {
    if (!visible) return;
    for (const id of ids) if (lines.has(id)) drawLine(room.photos.get(id));
    if (ids.includes(large)) drawLarge(large);
  });
  room.on("gone", (ids) => { for (const id of ids) { lines.get(id)?.line.remove(); lines.delete(id); } });
  // From one caption to the next without the mouse.
  list.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey) return;
    event.preventDefault();
    const next = event.target.closest("li").nextElementSibling;
    $("textarea", next ?? event.target.closest("li")).focus();
  });
}
