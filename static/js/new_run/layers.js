// Which layers get an adapter: presets to press, and the model's blocks as rows of cells that show what is chosen.

import { ApiError, api } from "../lib/api.js";
import { $, throttled } from "../lib/dom.js";
import { fieldOf, form, typeInto, valueOf } from "./fields.js";

const field = fieldOf("targets");
const box = $('[data-picker="targets"]');
const fold = field.closest("details");

const names = () => valueOf(field).split(",").map((one) => one.trim()).filter(Boolean);
const percent = (share) => `${share > 0 && share < 0.01 ? "under 1" : Math.round(100 * share)}%`;

// Everything is all there is, so another preset takes its place; the others go together.
function toggle(name) {
  const now = names();
  let next = now.includes(name) ? now.filter((one) => one !== name) : [...now.filter((one) => one !== "all_linear"), name];
  if (name === "all_linear" || !next.length) next = ["all_linear"];
  typeInto(field, next.join(", "));
}

function element(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

function draw(found) {
  const held = document.activeElement?.dataset?.preset;
  const chosen = names();
  const presets = element("div", "row tight");
  presets.setAttribute("role", "group");
  presets.setAttribute("aria-label", "Which layers");
  presets.append(...found.presets.map(({ name, label, sentence, share }) => {
    const button = element("button", "button chip-button", label);
    button.type = "button";
    button.dataset.preset = name;
    button.title = sentence;
    button.setAttribute("aria-pressed", String(chosen.includes(name)));
    button.append(element("span", "quiet", ` ${percent(share)}`));
    button.addEventListener("click", () => toggle(name));
    return button;
  }));
  const rows = found.stacks.map(({ label, chosen: counts, of }) => {
    const row = element("div", "stack-row");
    const cells = element("span", "cells");
    cells.setAttribute("aria-hidden", "true");
    cells.append(...counts.map((count) => {
      const cell = element("i", "");
      cell.style.setProperty("--chosen", count / of);
      return cell;
    }));
    const blocks = counts.filter(Boolean).length;
    row.append(element("span", "small", label), cells, element("span", "small quiet", `${blocks} of ${counts.length} blocks`));
    return row;
  });
  const words = found.problem ? "Nothing is chosen." : `${found.chosen} of ${found.of} layers: a file of ${percent(found.share)} of what “Everything” makes.`;
  box.replaceChildren(presets, ...rows, element("p", "small quiet", words));
  if (held) $(`[data-preset="${CSS.escape(held)}"]`, box)?.focus();
}

let newest = 0;
const show = throttled(200, async () => {
  if (!fold.open) return;
  newest += 1;
  const asked = newest;
  try {
    const model = encodeURIComponent(form.elements.model.value);
    const found = await api("GET", `/models/${model}/layers?${new URLSearchParams({ targets: valueOf(field) })}`);
    if (asked === newest) draw(found);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    box.replaceChildren();
  }
});

fold.addEventListener("toggle", show);
field.addEventListener("filled", show);
form.addEventListener("input", (event) => { if (["targets", "model"].includes(event.target.name)) show(); });
