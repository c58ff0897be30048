// The form: what to draw, what pressing Draw costs, and filling it from a recipe.

import { api } from "../lib/api.js";
import { $, $$, show, write } from "../lib/dom.js";
import { clearErrors, onSubmit, showErrors, textsOf } from "../lib/forms.js";
import { plural } from "../lib/format.js";
import { GridForm } from "./grid_form.js";
import * as adapters from "./rows.js";
import { data, room } from "./state.js";

const form = $("#draw");
const base = form.elements.model;
const first = adapters.rows()[0];
const suits = JSON.parse($("#suits-data").textContent); // model -> the values that suit it
const NUMBERS = ["steps", "guidance", "width", "height"];

const hasAdapter = () => Boolean(adapters.selectOf(first).value);
const without = () => hasAdapter() && form.elements.without.checked;

// ---- the request ----

const adaptersAsked = () => (hasAdapter() ? adapters.rows().filter((row) => adapters.selectOf(row).value) : [])
  .map((row) => ({ id: Number(adapters.selectOf(row).value), strengths: adapters.strengthsOf(row) }));

// Numbers go as they were typed: the server reads them as those of any other form, and refuses 1.000 and 1,5 in words.
function request() {
  const texts = textsOf(form);
  const body = { model: base.value, prompt: form.elements.prompt.value, adapters: adaptersAsked(), seed: texts.seed, count: texts.count, without: without(), base_precision: texts.base_precision };
  for (const name of NUMBERS) body[name] = texts[name];
  return Object.fromEntries(Object.entries(body).filter(([, value]) => value !== undefined && value !== ""));
}

// ---- what it costs ----

function seconds(pictures) {
  const pace = data.paces[base.value];
  if (!pace) return null;
  const [steps, , width, height] = NUMBERS.map((name) => Number(form.elements[name].value || form.elements[name].placeholder));
  const each = (pace.seconds * steps * width * height) / 1e6;
  return Number.isFinite(each) ? pace.start_seconds + pictures * each : null;
}

function roughly(time) {
  if (time < 90) return plural(Math.max(1, Math.round(time)), "second");
  return time < 5400 ? plural(Math.round(time / 60), "minute") : `${(time / 3600).toFixed(1)} hours`;
}

function showCost(press, time, parts) {
  write($("#draw-words"), press);
  write($("#draw-time"), time);
  write($("#cost"), [parts, time].filter(Boolean).join(", "));
}

function drawCost() {
  if (grid.isOn) return;
  const asked = adaptersAsked();
  const combinations = asked.reduce((count, { strengths }) => count * strengths.length, 1);
  const seeds = Math.max(1, Math.floor(Number(form.elements.count.value)) || 1);
  const variants = combinations + (without() ? 1 : 0);
  const pictures = variants * seeds;
  const counted = combinations ? plural(combinations, asked.length > 1 ? "combination" : "strength") : "no strength";
  const strengths = asked.length ? [`${counted}${without() ? " and without" : ""}`] : [];
  const parts = [...strengths, ...(seeds > 1 ? [plural(seeds, "seed")] : [])].join(" × ");
  const time = pictures ? seconds(pictures) : null;
  showCost(pictures > 1 ? `Draw ${pictures}` : "Draw", time === null ? "" : `about ${roughly(time)}`, parts);
}

const grid = new GridForm(form, { request, first, onCost: showCost });

// ---- what follows from a choice ----

export function followAdapter({ keepModel = false } = {}) {
  const option = adapters.optionOf(first);
  const has = hasAdapter();
  for (const part of [$("#strength-field"), $("#compare-field")]) show(part, has);
  show($("#imported"), Boolean(option.dataset.imported));
  show($("#add-adapter"), has && adapters.rows().length < adapters.AT_MOST && adapters.selectOf(first).options.length > 2);
  show($("#more-adapters"), has);
  const words = has ? `${option.dataset.trigger} ${option.dataset.classWord}`.trim() : "";
  const previous = form.dataset.words;
  write($("#trigger-words"), words);
  show($("#with-trigger"), words !== "");
  const prompt = form.elements.prompt;
  if (previous && words && prompt.value.includes(previous)) prompt.value = prompt.value.replaceAll(previous, words);
  form.dataset.words = words;
  if (!keepModel && [...base.options].some((one) => one.value === option.dataset.model)) base.value = option.dataset.model;
  adapters.showFitting(base);
  followModel();
}

function followModel() {
  for (const [name, value] of Object.entries(suits[base.value] ?? {})) {
    form.elements[name].placeholder = value;
    write($(`[data-suits="${name}"]`), value);
  }
  adapters.showFitting(base);
  changed();
}

function changed() {
  drawCost();
  grid.changed();
}

// ---- filling it in ----

// `saved` is a request, as a drawing or a recipe has it. A grid's form has no place here.
export function fillIn(saved) {
  grid.close();
  clearErrors(form);
  for (const row of adapters.rows().slice(1)) adapters.removeRow(row);
  const stack = saved.adapters.map(({ id, strengths, strength }) => ({ id: String(id), strengths: strengths ?? [strength ?? 1] }));
  const known = (id) => [...adapters.selectOf(first).options].some((option) => option.value === id);
  const here = stack.filter(({ id }) => known(id));
  adapters.selectOf(first).value = here[0]?.id ?? "";
  followAdapter();
  if (here[0]) adapters.setStrengths(first, here[0].strengths);
  for (const { id, strengths } of here.slice(1)) adapters.setStrengths(adapters.addRow(id), strengths);
  if ([...base.options].some((option) => option.value === saved.model)) base.value = saved.model;
  form.elements.without.checked = Boolean(saved.without);
  for (const name of ["prompt", "seed", "count", "base_precision", ...NUMBERS]) form.elements[name].value = saved[name] ?? "";
  form.elements.count.value ||= 1;
  form.elements.base_precision.value ||= "full";
  followAdapter({ keepModel: true });
  if (here.length < stack.length) write($("[data-error]", form), "An adapter of this recipe is no longer here; choose another one.");
  form.elements.prompt.focus();
  scrollTo({ top: 0 });
}

// ---- pressing and typing ----

function step(way) {
  const count = form.elements.count;
  count.value = Math.min(16, Math.max(1, (Math.floor(Number(count.value)) || 1) + way));
  changed();
}

function unfold(button, part) {
  const open = button.getAttribute("aria-expanded") !== "true";
  button.setAttribute("aria-expanded", open);
  show(part, open);
}

function takeOther(input) {
  if (!input.value.trim()) return;
  const row = input.closest("[data-row]");
  const error = $(".error", row);
  const taken = input.value.trim().split(/[\s;]+/).every((each) => adapters.addStrength(row, each));
  write(error, taken ? "" : `The strength ${input.value.trim()} is not a number; write it like 0.75.`);
  if (taken) input.value = "";
  changed();
}

function listen() {
  form.addEventListener("input", (event) => { if (!event.target.matches("[data-other]")) changed(); });
  form.addEventListener("change", (event) => {
    if (event.target === adapters.selectOf(first)) followAdapter();
    else if (event.target === base) followModel();
    else if (event.target.matches("[data-other]")) takeOther(event.target);
  });
  form.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !event.target.matches("[data-other]") || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    takeOther(event.target);
  });
  form.addEventListener("click", (event) => {
    const row = event.target.closest("[data-remove-row]")?.closest("[data-row]");
    if (!row) return;
    adapters.removeRow(row);
    followAdapter({ keepModel: true });
    $("#add-adapter").focus();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !$("dialog[open]")) form.requestSubmit($("#draw-button"));
  });
  $("#add-adapter").addEventListener("click", () => { const row = adapters.addRow(); followAdapter({ keepModel: true }); adapters.selectOf(row).focus(); });
  $("#fewer-seeds").addEventListener("click", () => step(-1));
  $("#more-seeds").addEventListener("click", () => step(1));
  $("#new-seed").addEventListener("click", () => { form.elements.seed.value = Math.floor(Math.random() * 1e6); changed(); });
  $("#more-mode").addEventListener("click", ({ currentTarget }) => unfold(currentTarget, $("#more")));
  for (const key of $$("#draw-button kbd")) write(key, /Mac|iP/.test(navigator.platform) ? "⌘↵" : "Ctrl ↵");
}

// Errors of fields that are folded away unfold them.
function showProblems(of, error) {
  showErrors(of, error);
  if ($("#more [aria-invalid]") && $("#more").hidden) unfold($("#more-mode"), $("#more"));
}

// `openGrid(id)` is called with each new grid.
export function startAsk(openGrid) {
  listen();
  onSubmit(form, async () => {
    for (const input of $$("[data-other]", form)) takeOther(input);
    if (grid.isOn) {
      const { grid_id, job_id } = await api("POST", "/grids", grid.request());
      openGrid(grid_id);
      await room.refresh(job_id);
    } else await room.refresh((await api("POST", "/pictures", request())).job_id);
  }, showProblems);
  followAdapter({ keepModel: true });
}
