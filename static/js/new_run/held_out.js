// Which photos are held out: automatically, none, so many, or those that are pressed.

import { ApiError, all } from "../lib/api.js";
import { $, $$, page } from "../lib/dom.js";
import { plural } from "../lib/format.js";
import { fieldOf, form, typeInto, valueOf } from "./fields.js";

const field = fieldOf("held_out");
const box = $('[data-picker="held_out"]');
const fold = field.closest("details");
let photos = null; // those that a run trains on

// The names in the field that are photos; a name may have a comma in it (core/dataset/split.py reads it alike).
function named() {
  const known = new Set(photos.map((one) => one.name));
  const text = valueOf(field);
  if (known.has(text)) return new Set([text]);
  const parts = text.split(",");
  const found = new Set();
  for (let start = 0; start < parts.length;) {
    let end = parts.length;
    while (end > start && !known.has(parts.slice(start, end).join(",").trim())) end -= 1;
    if (end > start) found.add(parts.slice(start, end).join(",").trim());
    start = Math.max(end, start + 1);
  }
  return found;
}

function toggle(name) {
  const now = named();
  if (now.has(name)) now.delete(name);
  else now.add(name);
  typeInto(field, photos.map((one) => one.name).filter((one) => now.has(one)).join(", ") || "auto");
}

function way(label, value) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "button chip-button";
  button.textContent = label;
  button.dataset.way = value;
  button.addEventListener("click", () => typeInto(field, value));
  return button;
}

function draw() {
  const ways = document.createElement("div");
  ways.className = "row tight";
  ways.append(way("Automatic", "auto"), way("None", "none"));
  const words = document.createElement("span");
  words.className = "small quiet";
  words.dataset.words = "";
  ways.append(words);
  const list = document.createElement("div");
  list.className = "thumbs";
  list.setAttribute("role", "group");
  list.setAttribute("aria-label", "Photos to hold out");
  list.append(...photos.map(({ name, thumb_url: url }) => {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.name = name;
    button.setAttribute("aria-label", name);
    button.title = name;
    const picture = new Image(72, 72);
    picture.loading = "lazy";
    picture.alt = "";
    picture.src = url;
    button.append(picture);
    button.addEventListener("click", () => toggle(name));
    return button;
  }));
  box.replaceChildren(ways, list);
}

function mark() {
  if (!photos) return;
  const now = named();
  for (const button of $$("[data-name]", box)) button.setAttribute("aria-pressed", String(now.has(button.dataset.name)));
  const value = valueOf(field).toLowerCase();
  for (const button of $$("[data-way]", box)) button.setAttribute("aria-pressed", String(button.dataset.way === value));
  $("[data-words]", box).textContent = now.size ? `${plural(now.size, "photo")} held out, ${photos.length - now.size} trained on.` : "Or press the photos that the run must not see.";
}

async function open() {
  if (!fold.open || photos) return;
  try {
    photos = (await all(`/projects/${page.dataset.project}/photos`)).filter((one) => !one.aside).sort((a, b) => (a.name < b.name ? -1 : 1));
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return;
  }
  if (photos.length) draw();
  else photos = null;
  mark();
}

fold.addEventListener("toggle", open);
field.addEventListener("filled", mark);
form.addEventListener("input", (event) => { if (event.target.name === "held_out") mark(); });
open();
