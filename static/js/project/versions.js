// What changed between two versions of the set: the one of a run, and that of another run or the set as it is now.

import { api } from "../lib/api.js";
import { $, show } from "../lib/dom.js";
import { plural } from "../lib/format.js";
import { attempt, room } from "./state.js";

const NOW = 0;
const dialog = $("#versions");
const named = (version) => version.runs.map((run) => run.name).join(", ") || `Version ${version.id}`;

function block(title, rows) {
  if (!rows.length) return null;
  const part = document.createElement("section");
  const head = document.createElement("h3");
  head.textContent = title;
  const list = document.createElement("ul");
  list.append(...rows);
  part.append(head, list);
  return part;
}

function row(photoId, name, ...more) {
  const item = document.createElement("li");
  const photo = room.photos.get(photoId);
  if (photo) {
    const thumb = new Image();
    thumb.src = photo.thumb_url;
    thumb.alt = "";
    thumb.loading = "lazy";
    item.append(thumb);
  }
  const words = document.createElement("p");
  const title = document.createElement("b");
  title.textContent = name;
  words.append(title, ...more);
  item.append(words);
  return item;
}

function part(tag, text) {
  const one = document.createElement(tag);
  one.textContent = text;
  return one;
}

const captionRow = ({ photo_id: id, name, before, after }) => row(id, name, document.createElement("br"), part("del", before), " ", part("ins", after));
const crops = (list) => (list.length ? plural(list.length, "crop") : "the default crop");

async function draw() {
  const [before, after] = [$("#version-before").value, $("#version-after").value];
  const found = await attempt(() => api("GET", `/projects/${room.project}/versions/difference?before=${before}&after=${after}`));
  if (!found) return;
  const parts = [
    block(`${plural(found.added.length, "photo")} added`, found.added.map((one) => row(one.photo_id, one.name))),
    block(`${plural(found.removed.length, "photo")} no longer there`, found.removed.map((one) => row(one.photo_id, one.name))),
    block(`${plural(found.captions.length, "caption")} changed`, found.captions.map(captionRow)),
    block(`Crops of ${plural(found.crops.length, "photo")} changed`, found.crops.map((one) => row(one.photo_id, one.name, `: ${crops(one.before)}, now ${crops(one.after)}`))),
    block(`Masks of ${plural(found.masks.length, "photo")} changed`, found.masks.map((one) => row(one.photo_id, one.name))),
  ].filter(Boolean);
  $("#version-changes").replaceChildren(...(parts.length ? parts : [part("p", "Nothing differs.")]));
}

export async function startVersions() {
  const opener = $("#compare-versions");
  if (!opener) return;
  opener.addEventListener("click", async () => {
    const versions = await attempt(() => api("GET", `/projects/${room.project}/versions`));
    if (!versions) return;
    const newest = versions.at(-1);
    const options = versions.map((version) => [version.id, `${named(version)} (${plural(version.photos, "photo")})`]);
    $("#version-before").replaceChildren(...options.map(([id, words]) => new Option(words, id)));
    $("#version-after").replaceChildren(new Option("The set as it is now", NOW), ...options.map(([id, words]) => new Option(words, id)));
    if (newest) $("#version-before").value = newest.id;
    show($("#version-changes"), versions.length > 0);
    dialog.showModal();
    if (newest) draw();
  });
  dialog.addEventListener("change", draw);
}
