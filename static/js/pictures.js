// Drawing: one press is one job. Its card is at the top of the history at once, and is filled in as pictures come.

import { ApiError, api, put } from "./lib/api.js";
import { $, $$, copy, page, show, throttled, toast, write } from "./lib/dom.js";
import { Events } from "./lib/events.js";
import { onSubmit, textsOf } from "./lib/forms.js";
import { openLightbox } from "./lib/lightbox.js";
import { wording } from "./lib/wording.js";

const form = $("#draw");
const gallery = $("#gallery");
const adapter = form.elements.adapter;

// ---- the form ----

function followAdapter(previousWords) {
  const chosen = adapter.selectedOptions[0];
  const has = Boolean(adapter.value);
  for (const part of [$("#strength-field"), $("#compare-field")]) show(part, has);
  show($("#imported"), Boolean(chosen.dataset.imported));
  const words = has ? `${chosen.dataset.trigger} ${chosen.dataset.classWord}`.trim() : "";
  if ($("#trigger-words")) write($("#trigger-words"), words || "anything you like");
  const prompt = form.elements.prompt;
  if (previousWords && words && prompt.value.includes(previousWords)) prompt.value = prompt.value.replaceAll(previousWords, words);
  adapter.dataset.words = words;
}

adapter.addEventListener("change", () => followAdapter(adapter.dataset.words));
form.elements.strength.addEventListener("input", () => write($("#strength-value"), Number(form.elements.strength.value).toFixed(2)));
$("#new-seed").addEventListener("click", () => { form.elements.seed.value = Math.floor(Math.random() * 1e6); });

const numberOrText = (text) => (text === "" ? undefined : Number.isFinite(Number(text)) ? Number(text) : text);

function requestBody() {
  const texts = textsOf(form);
  const body = {
    model: adapter.selectedOptions[0].dataset.model,
    prompt: form.elements.prompt.value,
    adapters: adapter.value ? [{ id: Number(adapter.value), strength: Number(texts.strength) }] : [],
    seed: numberOrText(texts.seed),
    without: Boolean(adapter.value) && form.elements.compare.checked,
    steps: numberOrText(texts.steps),
    guidance: numberOrText(texts.guidance),
    width: numberOrText(texts.side),
    height: numberOrText(texts.side),
    base_precision: texts.base_precision,
  };
  return Object.fromEntries(Object.entries(body).filter(([, value]) => value !== undefined));
}

onSubmit(form, async () => {
  const request = requestBody();
  try {
    const { job_id: job } = await api("POST", "/pictures", request);
    addDrawing(job, request);
  } catch (error) {
    for (const problem of error.problems ?? []) {
      if (problem.field.startsWith("adapters")) problem.field = "adapters";
      if (problem.field === "width" || problem.field === "height") problem.field = "side";
    }
    throw error;
  }
});

// ---- the history ----

function addDrawing(job, request) {
  const card = copy("drawing-template");
  card.dataset.job = job;
  write($("[data-prompt]", card), request.prompt);
  write($("[data-words]", card), wording.queued);
  $("details", card).dataset.recipe = JSON.stringify({
    adapter: String(request.adapters[0]?.id ?? ""), strength: request.adapters[0]?.strength ?? 1, compare: request.without,
    prompt: request.prompt, seed: request.seed, steps: request.steps, guidance: request.guidance, width: request.width,
    base_precision: request.base_precision,
  });
  const pair = $("[data-pair]", card);
  for (let count = request.without ? 2 : 1; count > 0; count -= 1) {
    const figure = document.createElement("figure");
    const empty = document.createElement("div");
    empty.className = "canvas waiting";
    const caption = document.createElement("figcaption");
    caption.textContent = "\u00a0";
    figure.append(empty, caption);
    pair.append(figure);
  }
  show($("#no-drawings"), false);
  gallery.prepend(card);
}

const cardOf = (row) => $(`[data-job="${row.job_id}"]`, gallery);

function addPicture(card, sample) {
  if ($(`img[src="${CSS.escape(sample.url)}"]`, card)) return;
  const adapted = JSON.parse($("details", card).dataset.recipe).adapter !== "";
  const { plain, adapted: withAdapter, unadapted } = wording.pictures;
  const label = !adapted ? plain : sample.adapter_strength ? `${withAdapter} ${sample.adapter_strength}` : unadapted;
  const figure = $(".waiting", card)?.closest("figure") ?? $("[data-pair]", card).appendChild(document.createElement("figure"));
  const button = document.createElement("button");
  button.type = "button";
  button.className = "canvas";
  button.dataset.picture = sample.id;
  const title = `${label}: ${sample.prompt}`;
  button.dataset.title = title;
  const image = new Image();
  image.alt = title;
  image.src = sample.url;
  button.append(image);
  const caption = document.createElement("figcaption");
  const link = document.createElement("a");
  link.href = sample.url;
  link.download = `likeness-${sample.id}.png`;
  link.textContent = "Save";
  const remove = document.createElement("button");
  Object.assign(remove, { type: "button", className: "link-button", textContent: "Delete", ariaLabel: "Delete this picture" });
  remove.dataset.delete = "";
  caption.append(`${label} · `, link, " · ", remove);
  figure.replaceChildren(button, caption);
}

gallery.addEventListener("click", (event) => {
  const picture = event.target.closest("[data-picture]");
  if (picture) {
    const all = $$("[data-picture]", gallery);
    openLightbox(picture, (from, way) => all[all.indexOf(from) + (way === "left" || way === "up" ? -1 : 1)] ?? null, "Arrow keys go through the pictures");
  }
  const remove = event.target.closest("[data-delete]");
  if (remove) deletePicture(remove.closest("figure"));
  const again = event.target.closest("[data-again]");
  if (again) fillIn(JSON.parse($("details", again.closest("[data-job]")).dataset.recipe));
});

async function deletePicture(figure) {
  const card = figure.closest("[data-job]");
  try {
    await api("DELETE", `/pictures/${$("[data-picture]", figure).dataset.picture}`);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    toast(error.message);
    return;
  }
  figure.remove();
  if (!$("figure", card)) card.remove();
  show($("#no-drawings"), !$("[data-job]", gallery));
  toast("The picture is in the trash.");
  $("#history-title").focus();
}

function fillIn(saved) {
  if ([...adapter.options].some((option) => option.value === saved.adapter)) adapter.value = saved.adapter;
  followAdapter();
  for (const [name, value] of [["prompt", saved.prompt], ["seed", saved.seed], ["strength", saved.strength], ["steps", saved.steps], ["guidance", saved.guidance], ["side", saved.width], ["base_precision", saved.base_precision]]) {
    if (form.elements[name]) form.elements[name].value = value ?? "";
  }
  form.elements.compare.checked = saved.compare;
  form.elements.strength.dispatchEvent(new Event("input"));
  form.elements.prompt.focus();
}

// The recipe and the time are known when the job has ended: fetch its card again.
const fetchEnded = throttled(300, async () => {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const card of $$("[data-job]", gallery)) {
    const drawn = $(`#gallery [data-job="${card.dataset.job}"]`, fresh);
    if (drawn && !["queued", "running"].includes(drawn.dataset.state) && card.dataset.state !== drawn.dataset.state) card.replaceWith(drawn);
  }
});

new Events({}, page.dataset.after, {
  state(payload, row) {
    const card = cardOf(row);
    if (!card) return;
    if (payload.state === "running") write($("[data-words]", card), "Loading the model …");
    else if (payload.state !== "queued") fetchEnded();
  },
  phase(payload, row) {
    const card = cardOf(row);
    if (card) write($("[data-words]", card), payload.of > 1 ? `${payload.name}, ${payload.done} of ${payload.of}` : payload.name);
  },
  sample(payload, row) {
    const card = cardOf(row);
    if (card) addPicture(card, payload);
  },
});

// ---- adapters from elsewhere ----

$("#import-file").addEventListener("change", async (event) => {
  const chosen = [...event.target.files];
  event.target.value = "";
  if (!chosen.length) return;
  const configs = chosen.filter((one) => one.name.toLowerCase().endsWith(".json"));
  const [file, ...more] = chosen.filter((one) => !configs.includes(one));
  const words = $("#import-words");
  write($("#import-error"), "");
  if (!file || more.length || configs.length > 1) {
    show(words, false);
    write($("#import-error"), "Choose one .safetensors file, and with it the adapter_config.json that came with it, if there is one.");
    return;
  }
  show(words);
  try {
    const query = configs.length ? `?config_bytes=${configs[0].size}` : "";
    const { data } = await put(`/adapters/${encodeURIComponent(file.name)}${query}`, new Blob([file, ...configs]), (fraction) => write(words, `Reading ${file.name}, ${Math.round(fraction * 100)}%`)).promise;
    const option = new Option(`${data.name} (imported)`, data.id, true, true);
    Object.assign(option.dataset, { model: data.model, trigger: data.trigger, classWord: data.class_word, imported: data.name });
    if (![...adapter.options].some((one) => one.value === String(data.id))) adapter.prepend(option);
    adapter.value = String(data.id);
    followAdapter();
    write(words, [`${data.name} is here: rank ${data.rank}, for ${data.model}.`, ...data.warnings.map((text) => `It ${text}`)].join(" "));
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    show(words, false);
    write($("#import-error"), [error.message, ...error.problems.slice(0, 3).map((one) => `${one.field} ${one.message}.`)].join(" "));
  }
});

$("#rename-adapter").addEventListener("opened", () => {
  const name = $("#adapter-name");
  name.value = adapter.selectedOptions[0].dataset.imported;
  name.select();
});

onSubmit($("#rename-adapter-form"), async (rename) => {
  const chosen = adapter.selectedOptions[0];
  const { name } = await api("PATCH", `/adapters/${chosen.value}`, textsOf(rename));
  chosen.dataset.imported = name;
  chosen.textContent = `${name} (imported)`;
  $("#rename-adapter").close();
});

$("#delete-adapter").addEventListener("opened", () => write($("#adapter-to-delete"), adapter.selectedOptions[0].dataset.imported));

onSubmit($("#delete-adapter form"), async () => {
  const chosen = adapter.selectedOptions[0];
  await api("DELETE", `/adapters/${chosen.value}`);
  $("#delete-adapter").close();
  chosen.remove();
  followAdapter(adapter.dataset.words);
  toast("The adapter is in the trash.");
  adapter.focus();
});

followAdapter();
