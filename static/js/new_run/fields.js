// The fields of the form, one for each knob: their values, and where each value comes from.
//
//   default, model, optimizer  <  preset (by goal and time)  <  configuration  <  the user

import { $, $$, page, show, write } from "../lib/dom.js";
import { wording } from "../lib/wording.js";

export const form = $("#new-run");
export const models = JSON.parse($("#models-data").textContent);
export const touched = new Set(); // the knobs that the user has set
const layers = { preset: {}, configuration: {} }; // text by knob, over what suits the model

export const fields = () => $$("[data-knob]", form);
export const fieldOf = (name) => $(`[data-knob="${CSS.escape(name)}"]`, form);
export const inputOf = (field) => form.elements[field.dataset.knob];
export const labelOf = (name) => $(`#knob-${CSS.escape(name)}-label`, form)?.textContent.trim() ?? name;
export const currentModel = () => models[form.elements.model.value] ?? Object.values(models)[0];

export const setLayer = (name, values) => { layers[name] = values; };
export const layer = (name) => layers[name];

export function valueOf(field) {
  const input = inputOf(field);
  return input.type === "checkbox" ? (input.checked ? "on" : "off") : input.value.trim();
}

// What the knob has where no preset, configuration or user sets it. An alpha that nobody sets is equal to the rank.
function base(field) {
  const { default: value, source, knob } = field.dataset;
  const rank = knob === "alpha" ? fieldOf("rank") : null;
  if (rank && valueOf(rank) !== rank.dataset.default) return { value: valueOf(rank), source };
  return { value, source };
}

// The configuration's value, the preset's, the steps that suit the photos, else what suits the model.
export function usual(field) {
  const name = field.dataset.knob;
  for (const source of ["configuration", "preset"]) if (name in layers[source]) return { value: layers[source][name], source };
  const steps = String(currentModel()?.steps ?? "");
  if (name === "steps" && steps && steps !== field.dataset.default) return { value: steps, source: "photos" };
  return base(field);
}

export function put(field, value, source) {
  const input = inputOf(field);
  if (input.type === "checkbox") input.checked = value === "on";
  else input.value = value;
  showSource(field, source);
  field.dispatchEvent(new Event("filled"));
}

export function putUsual(field) {
  const { value, source } = usual(field);
  touched.delete(field.dataset.knob);
  put(field, value, source);
}

// The user's own value; false where a select has no such option.
export function putEdit(field, value) {
  const input = inputOf(field);
  if (input.options && ![...input.options].some((option) => option.value === value)) return false;
  touched.add(field.dataset.knob);
  put(field, value, "user");
  return true;
}

// As if the user had typed it: a picker's way to set its field. The check of the form follows, as after leaving it.
export function typeInto(field, value) {
  const input = inputOf(field);
  input.value = value;
  input.dispatchEvent(new Event("input", { bubbles: true }));
  input.dispatchEvent(new FocusEvent("focusout", { bubbles: true }));
}

export function showSource(field, source) {
  const badge = $("[data-source-words]", field);
  badge.dataset.source = source;
  write(badge, wording.sources[source]);
  const own = source === "user";
  show($("[data-mark]", field), own);
  if (own) field.dataset.changed = "";
  else delete field.dataset.changed;
  if (own) write($("[data-reset]", field), `Reset${shown(field, usual(field).value)}`);
}

// " to 16", as the field shows it; nothing for what is long.
function shown(field, value) {
  const input = inputOf(field);
  const text = input.options ? [...input.options].find((one) => one.value === value)?.textContent.split(":")[0] : value;
  return text && text.length <= 24 && !text.includes("\n") ? ` to ${text}` : "";
}

// After the user changed a field: it is theirs, unless it has the usual value again.
export function mark(field) {
  const { value, source } = usual(field);
  const own = valueOf(field) !== value;
  if (own) touched.add(field.dataset.knob);
  else touched.delete(field.dataset.knob);
  showSource(field, own ? "user" : source);
  if (field.dataset.knob === "rank" && fieldOf("alpha") && !touched.has("alpha")) putUsual(fieldOf("alpha"));
}

// What a request for this run has: values that differ from the defaults, and those over a preset or a configuration.
export function request() {
  const given = {};
  for (const field of fields()) {
    const name = field.dataset.knob;
    const value = valueOf(field);
    const over = name in layers.preset || name in layers.configuration;
    if (name === "model" || over || value !== base(field).value) given[name] = value;
  }
  return given;
}

// The presets and the configuration, by name and id; only those that are chosen.
export function chosen() {
  const names = { goal: form.elements.goal.value, time: form.elements.time.value, configuration: form.elements.configuration.value };
  return Object.fromEntries(Object.entries(names).filter(([, value]) => value));
}

// What the user has set, as text by field: to fill the form in again. Presets count where they are not those proposed.
export function edits() {
  const own = Object.fromEntries(fields().filter((field) => touched.has(field.dataset.knob)).map((field) => [field.dataset.knob, valueOf(field)]));
  const { goal = "", time = "", configuration = "" } = chosen();
  if (goal !== proposed.goal) own.goal = goal;
  if (time !== proposed.time) own.time = time;
  if (configuration) own.configuration = configuration;
  const start = form.elements.start_from?.value;
  return start ? { ...own, start_from: start } : own;
}

const proposedOf = (name) => [...form.elements[name]].find((one) => one.defaultChecked)?.value ?? "";
export const proposed = { goal: proposedOf("goal"), time: proposedOf("time") };

// A prompt as it is drawn: the subject's words in the place of {trigger} and {class_word}.
export const filled = (text) => text.replaceAll("{trigger}", page.dataset.trigger).replaceAll("{class_word}", page.dataset.classWord).replace(/\s+/g, " ").trim();
