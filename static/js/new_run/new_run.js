// The settings of a new run. What the user changes is stored in this browser until a run starts with it (draft.js).

import { ApiError, api } from "../lib/api.js";
import { checkFields } from "../lib/check.js";
import { $, $$, page, show, throttled, toast, write } from "../lib/dom.js";
import { duration } from "../lib/format.js";
import { onSubmit, showErrors } from "../lib/forms.js";
import { onBack } from "../lib/server.js";
import { onReset, showChanged } from "./changed.js";
import { idOf, onReplace, useConfiguration } from "./configurations.js";
import * as draft from "./draft.js";
import { chosen, currentModel, edits, fieldOf, fields, form, inputOf, labelOf, mark, proposed, putEdit, putUsual, request, showSource, touched, usual, valueOf } from "./fields.js";
import "./held_out.js";
import "./layers.js";
import { applyPresets, choose, showCosts } from "./presets.js";
import "./prompts.js";
import "./sizes.js";

const project = page.dataset.project;
const again = JSON.parse($("#again-data").textContent); // an earlier run whose settings are filled in, or null

// ---- what follows from the model, the presets and the optimizer ----

// Fill in what suits the model and the presets, except for what the user has set already.
function followModel() {
  const model = currentModel();
  for (const field of fields()) {
    const own = model?.defaults[field.dataset.knob];
    if (!own || field.dataset.knob === "model") continue;
    field.dataset.default = own.value;
    field.dataset.source = own.source;
  }
  write($("#suggestion"), model?.why ?? "");
  offerAdapters();
  followPresets();
}

function followPresets() {
  applyPresets();
  for (const field of fields()) if (field.dataset.knob !== "model" && !touched.has(field.dataset.knob)) putUsual(field);
  forgetUsual();
}

// What the user had set, and what is the usual value by now, is nothing changed.
function forgetUsual() {
  for (const name of [...touched]) {
    const { value, source } = usual(fieldOf(name));
    if (valueOf(fieldOf(name)) !== value) continue;
    touched.delete(name);
    showSource(fieldOf(name), source);
  }
  showChanged();
}

// Fill in the optimizer's own values, except where the user set one; show advice about a learning rate that does not suit it.
function followOptimizer({ own, advice }) {
  for (const [name, value] of Object.entries(own)) {
    const field = fieldOf(name);
    const ofModel = currentModel().defaults[name];
    field.dataset.default = value;
    field.dataset.source = value === ofModel.value ? ofModel.source : "optimizer";
    if (!touched.has(name)) putUsual(field);
  }
  forgetUsual();
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
    write($("#fit"), "No forecast with these settings.");
    show($("#fit-lack"), false);
    show($("#use-fit"), false);
  }
});

// ---- edits, stored until a run starts with them ----

let started = false;
let before = null; // the edits in whose place an earlier run's settings were filled in

function remember() {
  if (!started) draft.store(edits(), again?.id ?? null, before);
}

function changed() {
  showChanged();
  estimate();
  showCosts();
  remember();
}

// Everything as the page fills it in by itself, then these edits; returns the names of those that have no place any more.
function fillIn(wanted) {
  const { start_from: start = "", model, goal = proposed.goal, time = proposed.time, configuration = "", ...others } = wanted;
  const lost = [];
  touched.clear();
  choose("goal", goal);
  choose("time", time);
  if (!useConfiguration(configuration) && configuration) lost.push("the saved settings");
  putUsual(fieldOf("model"));
  if (model !== undefined && !putEdit(fieldOf("model"), model)) lost.push(`${labelOf("model")} ${model}`);
  followModel();
  for (const [name, value] of Object.entries(others)) {
    const field = fieldOf(name);
    if (!field || !putEdit(field, value)) lost.push(`${labelOf(name)} = ${value.replaceAll("\n", ", ")}`);
  }
  const select = form.elements.start_from;
  if (select) select.value = "";
  if (start) {
    const option = select && [...select.options].find((one) => one.value === start && !one.disabled);
    if (option) select.value = start;
    else lost.push("the adapter that it began with");
  }
  forgetUsual();
  estimate();
  showCosts();
  return lost;
}

// In place of what the form has now; with words, a toast brings that back.
async function replace(wanted, words) {
  const replaced = edits();
  fillIn(wanted);
  remember();
  if (words !== null) show($("#filled-in"), false);
  checkAll(true);
  if (words === null || !(await toast(words, { undo: "Undo", seconds: 10, about: "filled-in" }))) return;
  fillIn(replaced);
  remember();
  show($("#filled-in"), $("#filled-in p").textContent !== "");
  checkAll(true);
}

function showFilledIn(words, lost) {
  const gone = lost.length ? ` Left out, since there is no such setting or choice any more: ${lost.join("; ")}.` : "";
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
      (field.hidden ? $(".prompt input, #add-prompt", field.closest("[data-knob]")) : field).focus();
    });
    line.append(link);
    return line;
  }));
  return wrong.length;
}

function body() {
  const start = form.elements.start_from?.value;
  return { ...request(), ...chosen(), ...(start && { start_from: Number(start) }) };
}

const checkAll = checkFields(form, `/projects/${project}/runs/check`, body, {
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
  } else if (["goal", "time"].includes(event.target.name)) {
    followPresets();
  } else if (!event.target.name || event.target.name === "configuration") {
    return; // no setting: the filter, or saved settings, which fill in the form when the choice is made
  }
  changed();
});

onReset(changed, () => replace({}, "Every setting is as it was proposed."));
onReplace(replace);

$("#use-fit").addEventListener("click", () => {
  for (const [name, value] of Object.entries(offer)) putEdit(fieldOf(name), Array.isArray(value) ? value.join(" ") : String(value));
  changed();
});

onSubmit(form, async () => {
  show($("#form-problems"), false);
  const run = await api("POST", `/projects/${project}/runs`, body());
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
for (const kind of ["goal", "time"]) if (form.elements[kind].value !== proposed[kind]) typed[kind] = form.elements[kind].value;
const stored = draft.load();
const sameRun = stored && again && stored.again === again.id; // edited since its settings were filled in

// The settings of another version, named with their values: the form has no field for them.
const unknown = again ? Object.entries(again.unknown).map(([name, value]) => `${name} = ${value}`) : [];

// An earlier run's presets, or none: what it was started without is not proposed again.
function ofRun({ presets, edits: own }) {
  const configuration = idOf(presets.configuration);
  return { ...own, goal: presets.goal ?? "", time: presets.time ?? "", ...(configuration && { configuration }) };
}

if (again && !sameRun) {
  before = stored?.edits ?? null;
  const lost = fillIn({ ...ofRun(again), ...typed });
  showFilledIn(`These are the settings of ${again.name}. Change them and start again.`, [...lost, ...unknown]);
  remember();
  checkAll(true);
} else if (stored && Object.keys(stored.edits).length) {
  before = stored.before ?? null;
  const lost = fillIn({ ...stored.edits, ...typed });
  showFilledIn(sameRun ? `These are the settings of ${again.name}, with your changes.` : "What you had typed here before is filled in.", [...lost, ...(sameRun ? unknown : [])]);
  checkAll(true);
} else {
  fillIn(typed);
}
onBack(() => { estimate(); showCosts(); checkAll(false); });
