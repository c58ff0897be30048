// From photos to a project: it is there with the first photo, so that nothing is lost; then it gets its name and words.

import { ApiError, all, api } from "../lib/api.js";
import { $, $$, icon, show, throttled, toast, write } from "../lib/dom.js";
import { isZip, looksLikePhoto, pathOf } from "../lib/files.js";
import { plural } from "../lib/format.js";
import { onSubmit, textsOf } from "../lib/forms.js";
import { isCaptionFile, isMetadata } from "../project/caption_files.js";
import { Uploads } from "../project/upload.js";

const form = $("#new-project");
const KOHYA = /^\d+_(\S+) (.+)$/; // a folder that says the words: "10_sks can"
const PREVIEWS_AT_MOST = 60; // shown from the file itself, before it has arrived
let project = null; // a promise of it
let uploads = null;
const tiles = new Map(); // file -> its tile
let ownTrigger = false; // the user has typed one

// ---- the photos, as they come ----

function shape(tile, width, height) {
  tile.style.setProperty("--r", (Math.min(2, Math.max(0.5, width / height))).toFixed(4));
}

function coming(file) {
  const tile = document.createElement("li");
  tile.className = "tile coming";
  const pic = document.createElement("span");
  pic.className = "pic";
  tile.append(pic);
  $("#arrived").append(tile);
  tiles.set(file, tile);
  if (tiles.size > PREVIEWS_AT_MOST || isZip(file)) {
    pic.append(icon(isZip(file) ? "zip" : "photo"));
    return;
  }
  const image = new Image();
  image.alt = file.name;
  image.onload = () => { shape(tile, image.naturalWidth, image.naturalHeight); pic.append(image); };
  image.src = URL.createObjectURL(file);
}

function arrived(photo, file) {
  const known = $(`#arrived [data-photo="${photo.id}"]`);
  const tile = tiles.get(file) ?? known ?? document.createElement("li");
  if (known && known !== tile) { tile.remove(); return; } // the same photo twice
  if (file) tiles.delete(file);
  tile.className = "tile";
  tile.dataset.photo = photo.id;
  shape(tile, photo.width, photo.height);
  const image = new Image(photo.width, photo.height);
  image.alt = photo.name;
  image.src = photo.thumb_url;
  const pic = document.createElement("span");
  pic.className = "pic";
  pic.append(image);
  const before = $("img", tile);
  image.onload = () => { tile.replaceChildren(pic); if (before) URL.revokeObjectURL(before.src); };
  if (!tile.isConnected) { tile.replaceChildren(pic); $("#arrived").append(tile); }
}

async function allArrived() {
  const { id } = await project;
  for (const photo of await all(`/projects/${id}/photos`)) arrived(photo, null);
  for (const [file, tile] of tiles) if (isZip(file)) { tile.remove(); tiles.delete(file); }
}

// ---- the question ----

const words = () => textsOf(form);

function drawPrompt() {
  const { trigger, class_word: kind } = words();
  write($("#prompt-words"), [trigger, kind].filter(Boolean).join(" ") || "…");
}

async function triggerFor(name) {
  const own = project ? `&project=${(await project).id}` : "";
  return (await api("GET", `/trigger?name=${encodeURIComponent(name)}${own}`)).trigger;
}

const suggest = throttled(200, async () => {
  if (ownTrigger) return;
  const { name } = words();
  const trigger = await triggerFor(name);
  if (ownTrigger || words().name !== name) return;
  form.elements.trigger.value = trigger;
  drawPrompt();
});

function ask(withPhotos) {
  show($("#asking"));
  $("#landing").replaceChildren(); // the page has one thing to ask now
  const title = document.createElement("h1");
  title.append(...$("#ask-title").childNodes);
  Object.assign(title, { id: "ask-title", className: "what" });
  $("#ask-title").replaceWith(title);
  write($("#begin"), withPhotos ? "Begin with these photos" : "Begin");
  form.elements.class_word.focus();
  scrollTo(0, 0);
}

async function create() {
  const { trigger } = await api("GET", "/trigger");
  return api("POST", "/projects", { name: "New photos", trigger, class_word: "subject" });
}

// A folder may say what is in it.
function wordsOfFolder(files) {
  const found = files.map((file) => pathOf(file).split("/").at(-2)?.match(KOHYA)).find(Boolean);
  if (!found || form.elements.class_word.value) return;
  [, form.elements.trigger.value, form.elements.class_word.value] = found;
  ownTrigger = true;
  drawPrompt();
}

// Files were dropped, pasted or chosen; or none, to begin without photos: then there is a project once it has a name.
export async function begin(files) {
  if (!files.length) {
    ask(tiles.size > 0);
    suggest();
    return;
  }
  try {
    project ??= create();
    const { id, trigger } = await project;
    if (!form.elements.trigger.value) form.elements.trigger.value = trigger;
    uploads ??= new Uploads(id, { onPhoto: arrived, onArchive: allArrived, onRefused: (file) => { tiles.get(file)?.remove(); tiles.delete(file); } });
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    project = null;
    toast(error.message);
    return;
  }
  ask(true);
  for (const file of files) if (!isCaptionFile(file.name) && !isMetadata(file.name) && (isZip(file) || looksLikePhoto(file))) coming(file);
  wordsOfFolder(files);
  drawPrompt();
  uploads.add(files);
}

form.addEventListener("input", (event) => {
  if (event.target.name === "trigger") ownTrigger = form.elements.trigger.value.trim() !== "";
  if (event.target.name === "name") suggest();
  drawPrompt();
});
// A word for those who have no keyboard at hand.
for (const button of $$("[data-kind]", form)) {
  button.addEventListener("click", () => {
    form.elements.class_word.value = button.dataset.kind;
    form.elements.class_word.dispatchEvent(new Event("input", { bubbles: true }));
  });
}
$("#say-differently").addEventListener("click", () => {
  show($("#prompt-line"), false);
  show($("#trigger-line"));
  form.elements.trigger.focus();
});

onSubmit(form, async () => {
  const given = words();
  if (!given.name && given.class_word) given.name = `${given.class_word[0].toUpperCase()}${given.class_word.slice(1)}`;
  if (!given.trigger) given.trigger = await triggerFor(given.name);
  const { id } = project ? await api("PATCH", `/projects/${(await project).id}`, given) : await api("POST", "/projects", given);
  if (uploads?.busy) {
    write($("#begin"), `Waiting for ${plural(tiles.size, "photo")} …`);
    await uploads.finished();
  }
  location.assign(`/projects/${id}`);
});
