// A project's page: adding and deleting photos, captions, the project's words, and its runs, live.

import { ApiError, all, api, quietly } from "../lib/api.js";
import { $, $$, copy, page, show, throttled, toast, write } from "../lib/dom.js";
import { Events } from "../lib/events.js";
import { plural } from "../lib/format.js";
import { onPress, onSubmit, showErrors, textsOf } from "../lib/forms.js";
import { runLines } from "../lib/run_lines.js";
import { onBack } from "../lib/server.js";
import { wording } from "../lib/wording.js";
import { listed } from "./caption_files.js";
import { listenToCaptions, setCaption } from "./captions.js";
import { listenToCrops, showCrop } from "./crop.js";
import { listenToSubject } from "./trigger.js";
import { Uploads, listenForFiles } from "./upload.js";

const id = page.dataset.project;
const grid = $("#photos");

// ---- photos ----

function count() {
  const number = $$("[data-photo]:not(.leaving)", grid).length;
  write($("#photo-count"), number);
  show($("#photo-count"), number > 0);
  show($("#photos-first"), number === 0);
  show($("#caption-tools"), number > 0);
  show($("#caption-help"), number > 0);
  $("#drop").classList.toggle("roomy", number === 0);
}

function drawPhoto(photo) {
  const known = $(`[data-photo="${photo.id}"]`, grid);
  if (known) {
    setCaption(known, photo.caption);
    return;
  }
  const card = copy("photo-template");
  card.dataset.photo = photo.id;
  Object.assign(card.dataset, { width: photo.width, height: photo.height, crop: photo.crop ? JSON.stringify(photo.crop) : "" });
  const image = new Image(photo.width, photo.height);
  image.src = photo.thumb_url ?? `/api/photos/${photo.id}/thumb`;
  image.alt = photo.caption || photo.name;
  $(".frame", card).prepend(image);
  $("[data-remove]", card).setAttribute("aria-label", `Delete ${photo.name}`);
  $("[data-crop-open]", card).setAttribute("aria-label", `Crop ${photo.name}`);
  write($(".name", card), photo.name);
  $(".name", card).title = photo.name;
  write($(".size", card), `${photo.width} × ${photo.height}`);
  write($(".warnings", card), (photo.warnings ?? []).join(" "));
  show($(".warnings", card), photo.warnings?.length > 0);
  const field = $("[data-caption]", card);
  field.id = `caption-${photo.id}`;
  const label = $("label", card);
  label.htmlFor = field.id;
  write(label, `Caption of ${photo.name}`);
  grid.append(card);
  showCrop(card);
  setCaption(card, photo.caption);
  count();
}

// Deleting waits for a few seconds, in which it can be undone; leaving the page deletes at once.
const leaving = new Set();

async function removePhoto(card) {
  const photo = card.dataset.photo;
  const name = $(".name", card).textContent;
  const neighbour = card.nextElementSibling ?? card.previousElementSibling;
  card.classList.add("leaving");
  show(card, false);
  leaving.add(photo);
  count();
  ($("[data-remove]", neighbour ?? document) ?? $("#choose-files")).focus();
  if (await toast(`${name} was deleted.`, { undo: "Undo" })) {
    leaving.delete(photo);
    card.classList.remove("leaving");
    show(card);
    count();
    return;
  }
  if (!leaving.delete(photo)) return;
  try {
    await api("DELETE", `/photos/${photo}`);
    card.remove();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    card.classList.remove("leaving");
    show(card);
    count();
    toast(error.message);
  }
}

addEventListener("pagehide", () => {
  for (const photo of leaving) fetch(`/api/photos/${photo}`, { method: "DELETE", keepalive: true }).catch(() => {});
  leaving.clear();
});

grid.addEventListener("click", (event) => {
  const button = event.target.closest("[data-remove]");
  if (button) removePhoto(button.closest("[data-photo]"));
});

const uploads = new Uploads(id, drawPhoto);
listenForFiles(uploads, $("#drop"));
listenToCaptions(grid);
listenToCrops(grid);

// ---- captions by a job ----

let captionJob = $("#captioning").dataset.job || null;

const drawPhotos = async () => { for (const photo of await all(`/projects/${id}/photos`)) drawPhoto(photo); };
const refreshCaptions = throttled(700, () => quietly(drawPhotos()));

function showCaptionJob(job, words, done, of) {
  captionJob = String(job);
  show($("#captioning"));
  const bar = $("#captioning-bar");
  bar.max = of || 1;
  if (of) bar.value = done;
  write($("#captioning-words"), words);
}

function endCaptionJob(state, error) {
  const job = captionJob;
  captionJob = null;
  show($("#captioning"), false);
  show($("#captioning-error"), state === "failed");
  if (state === "failed") write($("#captioning-error p"), error?.message ?? "The captions could not be written.");
  refreshCaptions();
  if (state === "succeeded") quietly(reportCaptions(job));
}

// Photos that were left out are named, the first with its reason.
async function reportCaptions(job) {
  const { result } = await api("GET", `/jobs/${job}`);
  const [first, ...others] = result.left_out ?? [];
  if (!first) {
    toast("The captions are written.");
    return;
  }
  const more = others.length ? ` So were ${listed(others.map((one) => one.field))}.` : "";
  write($("#captioning-error p"), `${plural(result.written, "caption")} written. ${first.field} was left out: ${first.message}${more}`);
  show($("#captioning-error"));
}

const dialog = $("#write-captions");
let captionerUrl = null;
const backend = () => $("[name=backend]:checked", dialog).value;

async function askCaptioner() {
  const words = $("#captioner-words");
  if (backend() !== "openai" || words.dataset.asked) return;
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

dialog.addEventListener("change", () => {
  for (const part of $$("[data-for]", dialog)) show(part, part.dataset.for === backend());
  askCaptioner();
});

onSubmit($("#write-captions-form"), async (form) => {
  const texts = textsOf(form);
  const request = { backend: texts.backend, overwrite: form.elements.overwrite.checked };
  if (texts.backend === "template") request.template = texts.template;
  else Object.assign(request, texts.model ? { model: texts.model } : {}, captionerUrl ? { url: captionerUrl } : {});
  const { job_id: job } = await api("POST", `/projects/${id}/captions`, request);
  dialog.close();
  show($("#captioning-error"), false);
  showCaptionJob(job, wording.queued, 0, 0);
});

onPress($("#captioning-stop"), () => api("POST", `/jobs/${captionJob}/stop`), $("#captioning-words"));

// ---- the project itself ----

listenToSubject($("#edit-project-form"), id);

onSubmit($("#delete-project form"), async () => {
  await api("DELETE", `/projects/${id}`);
  location.assign("/");
}, showErrors);

// ---- live ----

onBack(refreshCaptions);
new Events({ project: id }, page.dataset.after, {
  state(payload, row) {
    runLines.state(payload, row);
    if (String(row.job_id) !== captionJob) return;
    if (payload.state === "running") write($("#captioning-words"), "Starting …");
    else if (payload.state !== "queued") endCaptionJob(payload.state, payload.error);
  },
  phase(payload, row) {
    if (String(row.job_id) !== captionJob) return;
    showCaptionJob(row.job_id, `${payload.done} of ${payload.of} photos`, payload.done, payload.of);
    refreshCaptions();
  },
  metric: runLines.metric,
});
