// Presets by goal and by time: what they set on the current model, and what each would cost here.

import { ApiError, api } from "../lib/api.js";
import { $, $$, page, throttled, write } from "../lib/dom.js";
import { duration, fileSize } from "../lib/format.js";
import { currentModel, edits, form, labelOf, layer, setLayer } from "./fields.js";

const settings = (kind) => currentModel()?.[kind === "goal" ? "goals" : "times"][form.elements[kind].value] ?? {};

// Choose by name; "" is none.
export function choose(kind, name) {
  for (const one of form.elements[kind]) one.checked = one.value === name;
}

// After goal, time or model changed: what the presets set from now on.
export function applyPresets() {
  const found = { ...settings("goal"), ...settings("time") };
  setLayer("preset", Object.fromEntries(Object.entries(found).map(([knob, { value }]) => [knob, value])));
  const list = $("#preset-changes");
  list.replaceChildren(...Object.entries(found).flatMap(([knob, { value, reason }]) => {
    const term = document.createElement("dt");
    term.textContent = labelOf(knob);
    const said = document.createElement("dd");
    const words = document.createElement("b");
    words.textContent = value.split("\n").join(" · ");
    const why = document.createElement("span");
    why.className = "quiet";
    why.textContent = reason;
    said.append(words, " ", why);
    return [term, said];
  }));
  write($("#preset-summary"), Object.keys(found).map((knob) => labelOf(knob).toLowerCase()).join(", ") || "nothing");
}

// The time first, since it is what one chooses by; a second line for the rest.
function showCost(line, cost) {
  const rest = document.createElement("span");
  const parts = cost.memory === null ? [] : [`${(cost.memory / 2 ** 30).toFixed(1)} GB memory`, `${fileSize(cost.disk)} disk`];
  rest.textContent = [...parts, ...(cost.fits ? [] : ["does not fit"])].join(", ");
  line.replaceChildren(`${cost.steps.toLocaleString("en")} steps, ${duration(cost.seconds)} `, rest);
  if (!cost.fits) line.dataset.fits = "no";
}

let newest = 0;

// The line under each preset, with the user's own values over it.
export const showCosts = throttled(500, async () => {
  newest += 1;
  const asked = newest;
  const { goal: _, time: __, configuration: ___, start_from: ____, ...own } = edits();
  const given = { model: form.elements.model.value, goal: form.elements.goal.value, time: form.elements.time.value, ...layer("configuration"), ...own };
  let found = null;
  try {
    found = await api("GET", `/projects/${page.dataset.project}/presets?${new URLSearchParams(given)}`);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error; // the estimate beside says that there is none
  }
  if (asked !== newest) return;
  const lines = $$(".preset .cost", form);
  for (const line of lines) line.removeAttribute("data-fits");
  if (!found) {
    for (const line of lines) write(line, "");
    return;
  }
  for (const [kind, list] of [["goal", found.goals], ["time", found.times]]) {
    for (const { name, cost } of list) {
      showCost($(`#${kind}-${name}-cost`), cost);
    }
  }
});
