// The rows of adapters: each with the strengths at which it is drawn. Every combination of their strengths is one picture.

import { $, $$, copy, show } from "../lib/dom.js";
import { data } from "./state.js";

export const AT_MOST = 4; // adapters at once
const first = $("#draw [data-row]");
const more = $("#more-adapters");
const STRENGTH = /^[+-]?(\d+\.?\d*|\.\d+)$/;

export const rows = () => [first, ...$$("[data-row]", more)];
export const selectOf = (row) => $("select", row);
export const optionOf = (row) => selectOf(row).selectedOptions[0] ?? null;

// Each checked strength as it is written.
export const strengthsOf = (row) => $$("[data-strengths] input:checked", row).map((box) => box.value);

// A strength of the user's own gets a chip, in its place among the others, and is chosen.
export function addStrength(row, text) {
  const group = $("[data-strengths]", row);
  const written = text.trim().replace(",", ".");
  if (!STRENGTH.test(written)) return false;
  const value = String(Number(written));
  const boxes = $$("input[type=checkbox]", group);
  const known = boxes.find((box) => Number(box.value) === Number(value));
  if (known) {
    known.checked = true;
    return true;
  }
  const chip = boxes[0].closest("label").cloneNode(true);
  const box = $("input", chip);
  Object.assign(box, { value, checked: true });
  $("span", chip).textContent = value;
  const after = boxes.find((each) => Number(each.value) > Number(value));
  group.insertBefore(chip, after?.closest("label") ?? $("[data-other]", group));
  return true;
}

export function setStrengths(row, strengths) {
  for (const box of $$("[data-strengths] input[type=checkbox]", row)) box.checked = false;
  for (const each of strengths) addStrength(row, String(each));
}

// ---- several adapters ----

// The field names are those of the problems that the server names: adapters.0, adapters.1, ...
function number() {
  rows().forEach((row, at) => {
    const select = selectOf(row);
    select.name = `adapters.${at}`;
    if (!at) return;
    select.id = `adapter-${at}`;
    $("label", row).htmlFor = select.id;
    $("label", row).textContent = `Adapter ${at + 1}`;
    const error = $(".error", row);
    error.id = `adapter-error-${at}`;
    error.dataset.errorFor = select.name;
    select.setAttribute("aria-describedby", error.id);
  });
}

export function addRow(value = null) {
  const row = copy("row-template");
  more.append(row);
  const taken = new Set(rows().slice(0, -1).map((each) => selectOf(each).value));
  const free = [...selectOf(row).options].find((option) => !taken.has(option.value) && !option.disabled);
  selectOf(row).value = value ?? free?.value ?? "";
  number();
  return row;
}

export function removeRow(row) {
  row.remove();
  number();
}

// ---- which fit ----

// Names of the models that an adapter can be drawn with.
export function fitsOf(option) {
  if (!option?.value) return null; // any
  return data.fits[data.trained[option.value] ?? option.dataset.model] ?? [];
}

// Offer only what goes together: the models that the first adapter fits, and other adapters that fit the chosen one.
export function showFitting(base) {
  const fits = fitsOf(optionOf(first));
  for (const option of base.options) option.disabled = option.hidden = Boolean(fits?.length) && !fits.includes(option.value);
  for (const row of rows().slice(1)) {
    for (const option of selectOf(row).options) option.disabled = !fitsOf(option)?.includes(base.value);
  }
  show($("#no-model"), fits !== null && !fits.length);
}

// A new adapter is offered in every row, and the template's.
export function offer(option) {
  for (const select of [...rows().map(selectOf), $("select", document.getElementById("row-template").content)]) {
    const known = [...select.options].some((one) => one.value === option.value);
    if (!known) select.prepend(option.cloneNode(true));
  }
}

export function withdraw(value) {
  for (const select of [...rows().map(selectOf), $("select", document.getElementById("row-template").content)]) {
    [...select.options].find((one) => one.value === value)?.remove();
  }
}
