// The settings of a new run. Only values that the user changed are sent, so that the run records their source.

import { ApiError, api } from "./lib/api.js";
import { $, $$, page, show, throttled, write } from "./lib/dom.js";
import { duration } from "./lib/format.js";
import { onSubmit, showErrors } from "./lib/forms.js";
import { wording } from "./lib/wording.js";

const form = $("#new-run");
const project = page.dataset.project;
const models = JSON.parse($("#models-data").textContent);
const touched = new Set();

const fields = () => $$("[data-knob]", form);
const inputOf = (field) => form.elements[field.dataset.knob];
const valueOf = (input) => (input.type === "checkbox" ? (input.checked ? "on" : "off") : input.value.trim());
const currentModel = () => models[form.elements.model.value] ?? Object.values(models)[0];

function put(field, value, source) {
  const input = inputOf(field);
  if (input.type === "checkbox") input.checked = value === "on";
  else input.value = value;
  showSource(field, source);
}

function showSource(field, source) {
  const badge = $("[data-source-words]", field);
  badge.dataset.source = source;
  write(badge, wording.sources[source]);
}

// Fill in what suits the model, except for what the user has set already.
function followModel() {
  const model = currentModel();
  for (const field of fields()) {
    const name = field.dataset.knob;
    const own = model.defaults[name];
    if (!own || name === "model") continue;
    field.dataset.default = own.value;
    field.dataset.source = own.source;
    if (touched.has(name)) continue;
    if (name === "steps" && String(model.steps) !== own.value) put(field, String(model.steps), "photos");
    else put(field, own.value, own.source);
  }
  write($("#suggestion"), model.why);
  $("#suggestion").dataset.steps = model.steps;
  write($("#use-suggestion"), `Use ${model.steps} steps`);
  offerSteps();
  offerAdapters();
}

// Fill in the optimizer's own values, except where the user set one; show advice about a learning rate that does not suit it.
function followOptimizer({ own, advice }) {
  for (const [name, value] of Object.entries(own)) {
    const field = $(`[data-knob="${name}"]`, form);
    const usual = currentModel().defaults[name];
    field.dataset.default = value;
    field.dataset.source = value === usual.value ? usual.source : "optimizer";
    if (valueOf(inputOf(field)) === value) touched.delete(name);
    if (!touched.has(name)) put(field, value, field.dataset.source);
  }
  write($("#advice p"), advice);
  show($("#advice"), advice !== "");
}

// Offer only adapters for this model; without any, hide the choice.
function offerAdapters() {
  const select = form.elements.start_from;
  if (!select) return;
  const options = $$("[data-model]", select);
  for (const option of options) option.disabled = option.hidden = option.dataset.model !== form.elements.model.value;
  if (select.selectedOptions[0]?.disabled) select.value = "";
  show($("#start-from-field"), options.some((option) => !option.disabled));
}

function offerSteps() {
  show($("#use-suggestion"), form.elements.steps.value.trim() !== $("#suggestion").dataset.steps);
}

// The values that differ from the defaults.
function changes() {
  const given = {};
  for (const field of fields()) {
    const value = valueOf(inputOf(field));
    if (field.dataset.knob === "model" || value !== field.dataset.default) given[field.dataset.knob] = value;
  }
  return given;
}

// The run's memory and disk, and settings that fit where these do not.
let offer = null;

function showFit(fit) {
  show($("#fit-box"), Boolean(fit));
  if (!fit) return;
  offer = fit.offer;
  write($("#fit"), fit.sentence);
  write($("#fit-lack"), fit.fits ? "" : fit.offer_words);
  show($("#fit-lack"), !fit.fits);
  show($("#use-fit"), Boolean(offer));
}

$("#use-fit").addEventListener("click", () => {
  for (const [name, value] of Object.entries(offer)) {
    const field = $(`[data-knob="${name}"]`, form);
    touched.add(name);
    put(field, Array.isArray(value) ? value.join(" ") : String(value), "user");
  }
  estimate();
});

const estimate = throttled(350, async () => {
  const given = changes();
  delete given.sample_prompts; // long, and it hardly counts
  try {
    const answer = await api("GET", `/projects/${project}/suggestion?${new URLSearchParams(given)}`);
    followOptimizer(answer);
    write($("#estimate"), duration(answer.seconds));
    write($("#estimate-why"), answer.measured ? "At the pace of your last run, pictures included." : "A rough figure; after the first run here it is measured. Pictures included.");
    showFit(answer.fit);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    write($("#estimate"), "–");
    write($("#estimate-why"), "No estimate with these settings.");
    showFit(null);
  }
});

form.addEventListener("input", (event) => {
  const field = event.target.closest("[data-knob]");
  if (!field) return;
  const name = field.dataset.knob;
  const isDefault = valueOf(inputOf(field)) === field.dataset.default;
  if (isDefault) touched.delete(name);
  else touched.add(name);
  showSource(field, isDefault ? field.dataset.source : "user");
  inputOf(field).removeAttribute("aria-invalid");
  write($(".error", field), "");
  if (name === "model") followModel();
  offerSteps();
  estimate();
});

$("#use-suggestion").addEventListener("click", () => {
  const field = $('[data-knob="steps"]', form);
  touched.delete("steps");
  const steps = $("#suggestion").dataset.steps;
  put(field, steps, steps === field.dataset.default ? field.dataset.source : "photos");
  offerSteps();
  estimate();
});

onSubmit(form, async () => {
  show($("#form-problems"), false);
  const given = changes();
  const start = form.elements.start_from?.value;
  if (start) given.start_from = Number(start);
  const run = await api("POST", `/projects/${project}/runs`, given);
  location.assign(`/runs/${run.id}`);
}, (_, error) => {
  const wrong = showErrors(form, error);
  if (wrong.length < 2) return;
  // Several at once: one list on top that leads to each.
  const box = $("#form-problems");
  write($("p", box), `${wrong.length} settings need another look. Nothing was lost.`);
  $("ul", box).replaceChildren(...wrong.map(({ field, text }) => {
    const line = document.createElement("li");
    const link = document.createElement("a");
    link.href = `#${field.id}`;
    link.textContent = text;
    link.addEventListener("click", (event) => { event.preventDefault(); field.focus(); });
    line.append(link);
    return line;
  }));
  show(box);
  box.focus();
});

// Values typed before this script was loaded, or restored by the browser after a reload, are the user's.
for (const field of fields()) {
  if (valueOf(inputOf(field)) === field.dataset.default) continue;
  touched.add(field.dataset.knob);
  showSource(field, "user");
}
followModel();
estimate();
