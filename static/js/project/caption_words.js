// The dialog that changes many captions: find and replace, words before and after, a template, a vision model. What would
// be replaced is shown, struck and inserted, before it is.

import { ApiError, api } from "../lib/api.js";
import { $, $$, show, write } from "../lib/dom.js";
import { plural } from "../lib/format.js";
import { onSubmit, textsOf } from "../lib/forms.js";
import { startCaptionJob } from "./caption_job.js";
import { editWithUndo, room } from "./state.js";

const dialog = $("#write-captions");
const form = $("form", dialog);
const ROWS_AT_MOST = 300;
let captionerUrl = null;
let proposed = null; // {ids, set, captions}: what the second press does

const how = () => $("[name=backend]:checked", dialog).value;
const byJob = () => ["template", "openai", "built-in"].includes(how());

// ---- which photos ----

function choices() {
  const active = room.active;
  const lists = { chosen: [...room.chosen], empty: active.filter((photo) => !photo.caption).map((photo) => photo.id), all: active.map((photo) => photo.id) };
  const words = { chosen: `The ${plural(lists.chosen.length, "photo")} chosen`, empty: `Those without a caption (${lists.empty.length})`, all: `All (${lists.all.length})` };
  return Object.entries(lists).filter(([name, ids]) => ids.length || (name === "empty" && byJob())).map(([name, ids]) => ({ name, ids, words: words[name] }));
}

function drawChoices() {
  const field = form.elements.which;
  const before = field.value;
  const offered = choices().filter(({ name }) => byJob() || name !== "empty");
  field.replaceChildren(...offered.map(({ name, words }) => new Option(words, name)));
  if (offered.some(({ name }) => name === before)) field.value = before;
}

const targets = () => choices().find(({ name }) => name === form.elements.which.value)?.ids ?? [];
const captioned = (ids) => ids.filter((id) => room.photos.get(id)?.caption);

// ---- the preview ----

// The part that differs, between what stays at the start and at the end.
function difference(before, after) {
  let start = 0;
  while (start < Math.min(before.length, after.length) && before[start] === after[start]) start += 1;
  let end = 0;
  while (end < Math.min(before.length, after.length) - start && before.at(-1 - end) === after.at(-1 - end)) end += 1;
  return [before.slice(0, start), before.slice(start, before.length - end), after.slice(start, after.length - end), before.slice(before.length - end)];
}

function row({ photo: id, before, after }) {
  const photo = room.photos.get(id);
  const item = document.createElement("li");
  const thumb = new Image();
  thumb.src = photo.thumb_url;
  thumb.alt = photo.name;
  thumb.loading = "lazy";
  const line = document.createElement("p");
  const [head, struck, inserted, tail] = difference(before ?? "", after ?? "");
  const part = (tag, text) => { const one = document.createElement(tag); one.textContent = text; return one; };
  line.append(head, ...(struck ? [part("del", struck)] : []), ...(inserted ? [part("ins", inserted)] : []), tail);
  item.append(thumb, line);
  return item;
}

function propose(ids, set, captions) {
  proposed = captions.length ? { ids, set } : null;
  show($("#caption-preview"), true);
  write($("#caption-preview-title"), captions.length ? `This replaces ${plural(captions.length, "caption")}` : "No caption would change");
  $("#caption-preview-rows").replaceChildren(...captions.slice(0, ROWS_AT_MOST).map(row));
  drawButton(captions.length);
}

function forget() {
  proposed = null;
  show($("#caption-preview"), false);
  drawButton();
}

function drawButton(number = 0) {
  const direct = byJob() && captioned(targets()).length === 0;
  write($("[type=submit]", form), proposed ? `Replace ${plural(number, "caption")}` : direct ? "Write captions" : "Preview");
}

// ---- doing it ----

function textChange(texts) {
  if (how() === "replace") {
    return { find: form.elements.find.value, replace: form.elements.replace.value, whole_words: form.elements.whole_words.checked, any_case: form.elements.any_case.checked };
  }
  return Object.fromEntries(["prefix", "suffix"].filter((name) => texts[name]).map((name) => [name, texts[name]]));
}

async function submit() {
  if (proposed) {
    const { ids, set } = proposed;
    if (await editWithUndo(ids, set)) dialog.close();
    return;
  }
  const [texts, ids] = [textsOf(form), targets()];
  if (!byJob()) {
    const set = textChange(texts);
    const found = await api("POST", `/projects/${room.project}/edits`, { photos: ids, set, preview: true });
    propose(ids, set, found.captions);
    return;
  }
  const request = { backend: texts.backend, photos: ids, overwrite: captioned(ids).length > 0 };
  if (texts.backend === "template") request.template = texts.template;
  if (texts.backend === "openai") Object.assign(request, texts.model ? { model: texts.model } : {}, captionerUrl ? { url: captionerUrl } : {});
  request.preview = request.overwrite;
  if (form.elements.which.value === "empty") delete request.photos; // the studio knows them best
  const { job_id: job } = await api("POST", `/projects/${room.project}/captions`, request);
  dialog.close();
  startCaptionJob(job, request.preview);
}

// The captions that a job proposes, for a second look.
export async function showProposal(job) {
  const { result } = await api("GET", `/jobs/${job}`);
  const captions = (result.captions ?? []).map((each) => ({ photo: each.photo, before: room.photos.get(each.photo)?.caption, after: each.text ?? each.after }))
    .filter((each) => room.photos.has(each.photo) && each.after !== each.before);
  if (!dialog.open) dialog.showModal();
  propose(captions.map((each) => each.photo), { captions: Object.fromEntries(captions.map((each) => [each.photo, each.after])) }, captions);
}

// ---- vision models on this computer ----

async function askCaptioner() {
  const words = $("#captioner-words");
  if (how() !== "openai" || words.dataset.asked) return;
  words.dataset.asked = "yes";
  try {
    const [server] = await api("GET", "/captioners");
    if (!server) {
      words.firstChild.textContent = "No vision server answers on this computer. Start one, then choose this again. ";
      delete words.dataset.asked;
      return;
    }
    $("#captioner-models").replaceChildren(...server.models.map((name) => new Option(name, name)));
    const field = $("#captioner-model");
    if (!field.value && server.models.length) [field.value] = server.models;
    captionerUrl = server.url;
    words.firstChild.textContent = server.models.length ? `${server.name ?? "A server"} answers at ${server.url} with ${plural(server.models.length, "model")}. ` : `${server.url} answers, but has no model loaded. `;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    words.firstChild.textContent = `${error.message} `;
    delete words.dataset.asked;
  }
}

// Open for these photos, or for those chosen.
export function openWords(ids = null, name = null) {
  if (ids) room.choose(ids, ids[0]);
  if (name) $(`[name=backend][value=${name}]`, dialog).checked = true;
  if (!dialog.open) dialog.showModal();
  form.elements.which.replaceChildren();
  onChange();
  if (!room.chosen.size && choices().some((one) => one.name === "empty" && one.ids.length) && byJob()) form.elements.which.value = "empty";
  drawButton();
}

function onChange(event) {
  if (event?.target.closest("#caption-preview")) return;
  for (const part of $$("[data-for]", dialog)) show(part, part.dataset.for === how());
  if (event?.target.name !== "which") drawChoices();
  forget();
  askCaptioner();
}

export function startWords() {
  for (const button of $$("[data-words]")) button.addEventListener("click", () => openWords(null, button.dataset.words || null));
  form.addEventListener("change", onChange);
  form.addEventListener("input", (event) => event.target.matches("input[type=text]") && forget());
  onSubmit(form, () => submit());
  dialog.addEventListener("close", forget);
}

