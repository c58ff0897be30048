// The fields of the form, one for each knob: their values, and where each value comes from.

import { $, $$, write } from "../lib/dom.js";
import { wording } from "../lib/wording.js";

export const form = $("#new-run");
export const models = JSON.parse($("#models-data").textContent);
export const touched = new Set(); // the knobs that the user has set

export const fields = () => $$("[data-knob]", form);
export const fieldOf = (name) => $(`[data-knob="${CSS.escape(name)}"]`, form);
export const inputOf = (field) => form.elements[field.dataset.knob];
export const currentModel = () => models[form.elements.model.value] ?? Object.values(models)[0];

export function valueOf(field) {
  const input = inputOf(field);
  return input.type === "checkbox" ? (input.checked ? "on" : "off") : input.value.trim();
}

// What the page fills in by itself: the number of steps that suits the photos, else the default.
export function usual(field) {
  const steps = String(currentModel()?.steps ?? "");
  if (field.dataset.knob === "steps" && steps && steps !== field.dataset.default) return { value: steps, source: "photos" };
  return { value: field.dataset.default, source: field.dataset.source };
}

export function put(field, value, source) {
  const input = inputOf(field);
  if (input.type === "checkbox") input.checked = value === "on";
  else input.value = value;
  showSource(field, source);
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

export function showSource(field, source) {
  const badge = $("[data-source-words]", field);
  badge.dataset.source = source;
  write(badge, wording.sources[source]);
}

// After the user changed a field: it is theirs, unless it has the usual value again.
export function mark(field) {
  const { value, source } = usual(field);
  const own = valueOf(field) !== value;
  if (own) touched.add(field.dataset.knob);
  else touched.delete(field.dataset.knob);
  showSource(field, own ? "user" : source);
}

// What a request for this run has: only values that differ from the defaults, so that the run records their source.
export function request() {
  const given = {};
  for (const field of fields()) {
    const value = valueOf(field);
    if (field.dataset.knob === "model" || value !== field.dataset.default) given[field.dataset.knob] = value;
  }
  return given;
}

// What the user has set, as text by field: to fill the form in again.
export function edits() {
  const own = Object.fromEntries(fields().filter((field) => touched.has(field.dataset.knob)).map((field) => [field.dataset.knob, valueOf(field)]));
  const start = form.elements.start_from?.value;
  return start ? { ...own, start_from: start } : own;
}
