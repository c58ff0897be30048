// Further picture sizes to press, and how many photos fall in each size that is trained.

import { ApiError, api } from "../lib/api.js";
import { $, page, throttled } from "../lib/dom.js";
import { fieldOf, form, typeInto, valueOf } from "./fields.js";

const SIDES = [256, 384, 512, 640, 768, 1024, 1280];
const MOST = 4; // core/config/knob.py
const field = fieldOf("more_sides_px");
const box = $('[data-picker="more_sides_px"]');
const fold = field.closest("details");

const sides = () => valueOf(field).split(/[\s,]+/).filter(Boolean);

function toggle(side) {
  const now = sides();
  const next = now.includes(side) ? now.filter((one) => one !== side) : [...now, side];
  typeInto(field, next.sort((a, b) => a - b).join(" "));
}

function made(tag, className, text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

function chips() {
  const row = made("div", "row tight");
  row.setAttribute("role", "group");
  row.setAttribute("aria-label", "Further sizes to train at");
  const now = sides();
  row.append(...SIDES.filter((side) => String(side) !== form.elements.side_px.value.trim()).map((side) => {
    const button = made("button", "button chip-button", `${side} px`);
    const on = now.includes(String(side));
    button.type = "button";
    button.dataset.side = side;
    button.setAttribute("aria-pressed", String(on));
    button.disabled = !on && now.length >= MOST;
    button.addEventListener("click", () => toggle(String(side)));
    return button;
  }));
  return row;
}

// One line a size: a bar for each bucket, as long as the share of the photos in it, and its count in words.
function line({ side_px: side, words, buckets, enlarged }) {
  const row = made("div", "size-row");
  const bars = made("span", "bars");
  bars.setAttribute("aria-hidden", "true");
  const all = buckets.reduce((sum, one) => sum + one.count, 0);
  bars.append(...buckets.map(({ width, height, count }) => {
    const bar = made("i", "");
    bar.style.flexGrow = String(count / all);
    bar.title = `${width} x ${height}: ${count}`;
    return bar;
  }));
  const soft = enlarged ? ` ${enlarged} of them enlarged much, so soft.` : "";
  row.append(made("b", "small", `${side} px`), bars, made("span", "small quiet", `${words}.${soft}`));
  return row;
}

let newest = 0;
const show = throttled(250, async () => {
  if (!fold.open) return;
  newest += 1;
  const asked = newest;
  const given = { model: form.elements.model.value };
  for (const name of ["side_px", "more_sides_px", "shapes"]) given[name] = form.elements[name].value;
  let lines = [];
  try {
    lines = (await api("GET", `/projects/${page.dataset.project}/sizes?${new URLSearchParams(given)}`)).map(line);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error; // the field says what is wrong
  }
  if (asked !== newest) return;
  const held = document.activeElement?.dataset?.side;
  box.replaceChildren(chips(), ...lines);
  if (held) $(`[data-side="${held}"]`, box)?.focus();
});

fold.addEventListener("toggle", show);
for (const name of ["side_px", "more_sides_px", "shapes"]) fieldOf(name).addEventListener("filled", show);
form.addEventListener("input", (event) => { if (["side_px", "more_sides_px", "shapes", "model"].includes(event.target.name)) show(); });
