// Drawing: one press is one job. The history is fetched again when a job of it changes; what has not changed stays.

import { ApiError, api, freshPage, put } from "./lib/api.js";
import { $, $$, page, reconcile, show, throttled, toast, write } from "./lib/dom.js";
import { Events } from "./lib/events.js";
import { onSubmit, textsOf } from "./lib/forms.js";
import { openLightbox } from "./lib/lightbox.js";
import { onBack } from "./lib/server.js";

const form = $("#draw");
const gallery = $("#gallery");
const adapter = form.elements.adapter;
const suits = JSON.parse($("#suits-data").textContent); // model -> the values that suit it

// ---- the form ----

function followAdapter(previousWords) {
  const chosen = adapter.selectedOptions[0];
  const has = Boolean(adapter.value);
  for (const part of [$("#strength-field"), $("#compare-field")]) show(part, has);
  show($("#imported"), Boolean(chosen.dataset.imported));
  const words = has ? `${chosen.dataset.trigger} ${chosen.dataset.classWord}`.trim() : "";
  write($("#trigger-words"), words);
  show($("#with-trigger"), words !== "");
  show($("#without-trigger"), words === "");
  for (const [name, value] of Object.entries(suits[chosen.dataset.model] ?? {})) {
    form.elements[name].placeholder = value;
    write($(`[data-suits="${name}"]`), value);
  }
  const prompt = form.elements.prompt;
  if (previousWords && words && prompt.value.includes(previousWords)) prompt.value = prompt.value.replaceAll(previousWords, words);
  adapter.dataset.words = words;
}

adapter.addEventListener("change", () => followAdapter(adapter.dataset.words));
form.elements.strength.addEventListener("input", () => write($("#strength-value"), Number(form.elements.strength.value).toFixed(2)));
$("#new-seed").addEventListener("click", () => { form.elements.seed.value = Math.floor(Math.random() * 1e6); });

// Numbers go as they were typed: the server reads them as those of any other form, and refuses 1.000 and 1,5 in words.
function requestBody() {
  const texts = textsOf(form);
  const body = {
    model: adapter.selectedOptions[0].dataset.model,
    prompt: form.elements.prompt.value,
    adapters: adapter.value ? [{ id: Number(adapter.value), strength: Number(texts.strength) }] : [],
    seed: texts.seed,
    without: Boolean(adapter.value) && form.elements.compare.checked,
    steps: texts.steps,
    guidance: texts.guidance,
    width: texts.side,
    height: texts.side,
    base_precision: texts.base_precision,
  };
  return Object.fromEntries(Object.entries(body).filter(([, value]) => value !== undefined && value !== ""));
}

onSubmit(form, async () => {
  const request = requestBody();
  try {
    await api("POST", "/pictures", request);
    await refresh();
  } catch (error) {
    error.problems = error.problems?.filter(({ field }) => field !== "height"); // the same as of the width
    for (const problem of error.problems ?? []) {
      if (problem.field.startsWith("adapters")) problem.field = "adapters";
      if (problem.field === "width") problem.field = "side";
    }
    throw error;
  }
});

// ---- the history ----

const cardOf = (row) => $(`[data-job="${row.job_id}"]`, gallery);

// Bring a card up to date with the same one as just rendered.
function update(card, fresh) {
  card.dataset.state = fresh.dataset.state;
  for (const part of [".card-head", "[data-words]", "[data-job-error]", ".recipe"]) {
    const [mine, theirs] = [$(part, card), $(part, fresh)];
    if (mine.innerHTML !== theirs.innerHTML) mine.replaceChildren(...theirs.childNodes);
  }
  show($("details", card), !$("details", fresh).hidden);
  reconcile($("[data-pair]", card), $("[data-pair]", fresh));
}

function showEmpty() {
  show($("#no-drawings"), !$("[data-job]", gallery));
}

async function fetchHistory() {
  const fresh = await freshPage();
  if (!fresh) return;
  const inside = gallery.contains(document.activeElement);
  reconcile(gallery, $("#gallery", fresh), update);
  if (inside && !gallery.contains(document.activeElement)) $("#history-title").focus();
  showEmpty();
  events.replay(fresh);
}

let fetched = Promise.resolve();

// One at a time, so that an older answer never replaces a newer one.
function refresh() {
  fetched = fetched.then(fetchHistory);
  return fetched;
}

const refreshSoon = throttled(150, refresh);

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
  const cancel = event.target.closest("[data-cancel]");
  if (cancel) cancelDrawing(cancel);
  const dismiss = event.target.closest("[data-dismiss]");
  if (dismiss) dismissDrawing(dismiss);
});

// Whether it waits or is being drawn: at once, since nothing of it is worth saving.
async function cancelDrawing(button) {
  if (button.getAttribute("aria-busy") === "true") return;
  button.setAttribute("aria-busy", "true"); // a disabled button would lose the focus
  try {
    await api("POST", `/jobs/${button.closest("[data-job]").dataset.job}/stop`, { now: true });
    toast("The drawing is cancelled.");
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    button.removeAttribute("aria-busy");
    toast(error.message);
  }
  await refresh();
}

// Take the error of a drawing that failed off the page, and its card where nothing was drawn.
async function dismissDrawing(button) {
  const path = `/jobs/${button.closest("[data-job]").dataset.job}/dismiss`;
  const set = async (dismissed) => {
    await attempt(() => api("POST", path, { dismissed }));
    await refresh();
  };
  await set(true);
  if (await toast("The failed drawing is dismissed.", { undo: "Undo" })) await set(false);
}

// Say in a toast why something could not be done.
async function attempt(act) {
  try {
    await act();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    toast(error.message);
  }
}

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
  showEmpty();
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

onBack(refreshSoon);
const events = new Events({}, page.dataset.after, {
  state(payload, row) {
    if (cardOf(row) || payload.state === "queued") refreshSoon(); // it may have been started in another tab
  },
  phase(payload, row) {
    const card = cardOf(row);
    if (card) write($("[data-words]", card), payload.of > 1 ? `${payload.name}, ${payload.done} of ${payload.of}` : payload.name);
  },
  sample(_, row) {
    if (cardOf(row)) refreshSoon();
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
