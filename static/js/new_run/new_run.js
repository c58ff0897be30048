// The settings of a new run. What the user changes is stored in this browser until a run starts with it (draft.js).

import { ApiError, api } from "../lib/api.js";
import { checkFields } from "../lib/check.js";
import { $, $$, page, show, throttled, toast, write } from "../lib/dom.js";
import { duration } from "../lib/format.js";
import { onSubmit, showErrors } from "../lib/forms.js";
import { onBack } from "../lib/server.js";
import * as draft from "./draft.js";
import { currentModel, edits, fieldOf, fields, form, inputOf, mark, models, put, putEdit, putUsual, request, touched, valueOf } from "./fields.js";

const project = page.dataset.project;
const again = JSON.parse($("#again-data").textContent); // an earlier run whose settings are filled in, or null

// ---- what follows from the model and the optimizer ----

// Fill in what suits the model, except for what the user has set already.
function followModel() {
  const model = currentModel();
  for (const field of fields()) {
    const name = field.dataset.knob;
    const own = model?.defaults[name];
    if (!own || name === "model") continue;
    field.dataset.default = own.value;
    field.dataset.source = own.source;
    if (!touched.has(name)) putUsual(field);
  }
  write($("#suggestion"), model?.why ?? "");
  $("#suggestion").dataset.steps = model?.steps ?? "";
  write($("#use-suggestion"), `Use ${model?.steps} steps`);
  offerSteps();
  offerAdapters();
}

// Fill in the optimizer's own values, except where the user set one; show advice about a learning rate that does not suit it.
function followOptimizer({ own, advice }) {
  for (const [name, value] of Object.entries(own)) {
    const field = fieldOf(name);
    const ofModel = currentModel().defaults[name];
    field.dataset.default = value;
    field.dataset.source = value === ofModel.value ? ofModel.source : "optimizer";
    if (valueOf(field) === value) touched.delete(name);
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
  show($("#use-suggestion"), Boolean(currentModel()) && form.elements.steps.value.trim() !== $("#suggestion").dataset.steps);
}

// ---- memory, disk and time ----

let offer = null; // settings that fit where these do not

function showFit(fit) {
  show($("#fit-box"), Boolean(fit));
  if (!fit) return;
  offer = fit.offer;
  write($("#fit"), fit.sentence);
  write($("#fit-lack"), fit.fits ? "" : fit.offer_words);
  show($("#fit-lack"), !fit.fits);
  show($("#use-fit"), Boolean(offer));
}

const estimate = throttled(350, async () => {
  const given = request();
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

// ---- edits, stored until a run starts with them ----

let started = false;
let before = null; // the edits in whose place an earlier run's settings were filled in

function remember() {
  if (!started) draft.store(edits(), again?.id ?? null, before);
}

function changed() {
  offerSteps();
  estimate();
  remember();
}

// Everything as the page fills it in by itself, then these edits; returns how many of them have no place any more.
function fillIn(wanted) {
  touched.clear();
  const { start_from: start = "", model, ...others } = wanted;
  putUsual(fieldOf("model"));
  let lost = model !== undefined && !putEdit(fieldOf("model"), model) ? 1 : 0;
  if (form.elements.model.value === fieldOf("model").dataset.default) touched.delete("model");
  followModel();
  for (const [name, value] of Object.entries(others)) {
    const field = fieldOf(name);
    if (!field || !putEdit(field, value)) lost += 1;
  }
  const select = form.elements.start_from;
  if (select) select.value = "";
  if (start) {
    const option = select && [...select.options].find((one) => one.value === start && !one.disabled);
    if (option) select.value = start;
    else lost += 1;
  }
  offerSteps();
  estimate();
  return lost;
}

// In place of what the form has now; the toast brings that back.
async function replace(wanted, words) {
  const replaced = edits();
  fillIn(wanted);
  remember();
  show($("#filled-in"), false);
  checkAll(true);
  if (!(await toast(words, { undo: "Undo", seconds: 10 }))) return;
  fillIn(replaced);
  remember();
  show($("#filled-in"));
  checkAll(true);
}

function sayFilledIn(words, lost) {
  const gone = lost ? ` ${lost === 1 ? "One of them has" : `${lost} of them have`} no place here any more and ${lost === 1 ? "is" : "are"} left out.` : "";
  write($("#filled-in p"), `${words}${gone}`);
  $("#use-defaults").addEventListener("click", () => replace({}, "The defaults are filled in."));
  $("#use-typed").addEventListener("click", () => replace(before, "What you had typed before is filled in."));
  show($("#use-typed"), Boolean(before));
  show($("#filled-in"));
}

// ---- problems ----

// Several at once: one list on top that leads to each; it follows the fields as they are corrected.
function listProblems() {
  const wrong = $$("[aria-invalid]", form).map((field) => ({ field, text: $(`[data-error-for="${CSS.escape(field.name)}"]`, form)?.textContent })).filter(({ text }) => text);
  const box = $("#form-problems");
  write($("p", box), `${wrong.length} settings need another look. Nothing was lost.`);
  $("ul", box).replaceChildren(...wrong.map(({ field, text }) => {
    const line = document.createElement("li");
    const link = document.createElement("a");
    link.href = `#${field.id}`;
    link.textContent = text;
    link.addEventListener("click", (event) => {
      event.preventDefault();
      for (let fold = field.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
      field.focus();
    });
    line.append(link);
    return line;
  }));
  return wrong.length;
}

function withStart(given) {
  const start = form.elements.start_from?.value;
  return start ? { ...given, start_from: Number(start) } : given;
}

const checkAll = checkFields(form, `/projects/${project}/runs/check`, () => withStart(request()), {
  edited: () => Object.keys(edits()),
  onShown() {
    const box = $("#form-problems");
    const count = $$("[aria-invalid]", form).length;
    if (count < 2) show(box, false);
    else if (!box.hidden) listProblems();
  },
});

// ---- what the user does ----

form.addEventListener("input", (event) => {
  const field = event.target.closest("[data-knob]");
  if (field) {
    mark(field);
    inputOf(field).removeAttribute("aria-invalid");
    write($(".error", field), "");
    if (field.dataset.knob === "model") followModel();
  }
  changed();
});

$("#use-suggestion").addEventListener("click", () => {
  putUsual(fieldOf("steps"));
  changed();
});

$("#use-fit").addEventListener("click", () => {
  for (const [name, value] of Object.entries(offer)) putEdit(fieldOf(name), Array.isArray(value) ? value.join(" ") : String(value));
  changed();
});

onSubmit(form, async () => {
  show($("#form-problems"), false);
  const run = await api("POST", `/projects/${project}/runs`, withStart(request()));
  started = true;
  draft.clear();
  location.assign(`/runs/${run.id}`);
}, (_, error) => {
  if (showErrors(form, error).length < 2) return;
  listProblems();
  show($("#form-problems"));
  $("#form-problems").focus();
});

// The browser may bring this very page back with what was started; a fresh one has no edits.
addEventListener("pageshow", (event) => { if (event.persisted && started) location.reload(); });

// Values typed before this script was loaded are the user's.
const typed = Object.fromEntries(fields().filter((field) => valueOf(field) !== field.dataset.default).map((field) => [field.dataset.knob, valueOf(field)]));
const stored = draft.load();
const sameRun = stored && again && stored.again === again.id; // edited since its settings were filled in
if (again && !sameRun) {
  before = stored?.edits ?? null;
  const lost = fillIn({ ...again.edits, ...typed });
  sayFilledIn(`These are the settings of ${again.name}. Change them and start again.`, lost);
  remember();
  checkAll(true);
} else if (stored && Object.keys(stored.edits).length) {
  before = stored.before ?? null;
  const lost = fillIn({ ...stored.edits, ...typed });
  sayFilledIn(sameRun ? `These are the settings of ${again.name}, with your changes.` : "What you had typed here before is filled in.", lost);
  checkAll(true);
} else {
  fillIn(typed);
}
onBack(() => { estimate(); checkAll(false); });
