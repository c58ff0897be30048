// A grid instead of single pictures: which axes, and which values each has. Strengths, seeds and adapters beside the first are
// those of the form; checkpoints, adapters and prompts are chosen here. The server says what it would cost, and what is wrong.

import { ApiError, api } from "../lib/api.js";
import { $, $$, show, throttled, write } from "../lib/dom.js";
import { plural } from "../lib/format.js";
import * as adapters from "./rows.js";
import { data } from "./state.js";
import { element } from "./tiles.js";

const STEPS_AT_FIRST = 4; // checkpoints that are chosen at first
const ADAPTERS_AT_FIRST = 3;
const FIRST_AXES = { rows: "checkpoint", columns: "strength", each: "" };
const NAMES = { checkpoint: "Checkpoints", adapter: "Adapters", prompt: "Prompts, one a line", strength: "", seed: "" };

// `count` of `values`, spread over all of them, the last one among them.
function spread(values, count) {
  if (values.length <= count) return values;
  return Array.from({ length: count }, (_, at) => values[Math.round(((at + 1) * values.length) / count) - 1]);
}

function toggle(value, words, checked) {
  const label = element("label", "toggle");
  const box = element("input", "");
  Object.assign(box, { type: "checkbox", value, checked });
  label.append(box, element("span", "", words));
  return label;
}

export class GridForm {
  // `request()` is what Draw would send without a grid, `first` the row of the first adapter.
  constructor(form, { request, first, onCost }) {
    Object.assign(this, { form, asked: request, first, onCost });
    this.isOn = false;
    this.editors = new Map(); // of each axis (and run, or model): what was chosen stays
    this.box = $("#grid-axes");
    this.values = $("#axis-values");
    this.check = throttled(250, () => this.checkNow());
    for (const select of this.selects) select.value = FIRST_AXES[select.dataset.axis];
    $("#grid-mode").addEventListener("click", () => (this.isOn ? this.close() : this.open()));
    this.box.addEventListener("change", () => this.changed());
  }

  get selects() { return $$("[data-axis]", this.box); }

  // Names of the axes, the slowest first: "for each", rows, columns.
  get axes() {
    const [rows, columns, each] = this.selects.map(({ value }) => value);
    return [...new Set([each, rows, columns].filter(Boolean))];
  }

  open() {
    this.isOn = true;
    this.setButton();
    this.changed();
  }

  close() {
    if (!this.isOn) return;
    this.isOn = false;
    this.setButton();
    write($("#grid-error"), "");
    this.form.dispatchEvent(new Event("input"));
  }

  setButton() {
    const button = $("#grid-mode");
    button.setAttribute("aria-pressed", this.isOn);
    button.setAttribute("aria-expanded", this.isOn);
    show(this.box, this.isOn);
  }

  changed() {
    if (!this.isOn) return;
    this.forbidTwice();
    this.drawValues();
    this.check();
  }

  // An axis that has its place is offered in no other.
  forbidTwice() {
    const taken = this.selects.map(({ value }) => value);
    this.selects.forEach((select, at) => {
      for (const option of select.options) option.disabled = Boolean(option.value) && taken.some((value, other) => other !== at && value === option.value);
    });
  }

  // {run, steps: [[step, id]]} of the first adapter's run; null for one that was imported.
  get run() {
    const [run] = data.steps[adapters.selectOf(this.first).value] ?? [];
    if (run === undefined) return null;
    const steps = Object.values(data.steps).filter(([of]) => of === run).map(([, step]) => step);
    return { run, steps: [...new Set(steps)].sort((one, other) => one - other) };
  }

  drawValues() {
    const shown = this.axes.filter((axis) => NAMES[axis]).map((axis) => {
      const key = { checkpoint: `checkpoint ${this.run?.run}`, adapter: `adapter ${this.form.elements.model.value}` }[axis] ?? axis;
      if (!this.editors.has(key)) this.editors.set(key, this.editorOf(axis));
      return this.editors.get(key);
    });
    const there = [...this.values.children];
    if (shown.length !== there.length || shown.some((each, at) => each !== there[at])) this.values.replaceChildren(...shown);
  }

  editorOf(axis) {
    const field = element("div", "field");
    field.dataset.values = axis;
    if (axis === "prompt") {
      const label = element("label", "", NAMES.prompt);
      label.htmlFor = "axis-prompts";
      const lines = element("textarea", "");
      Object.assign(lines, { id: "axis-prompts", rows: 3, value: this.form.elements.prompt.value });
      field.append(label, lines);
      return field;
    }
    const group = element("div", "toggles");
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", NAMES[axis]);
    group.append(...(axis === "checkpoint" ? this.checkpoints() : this.adapters()));
    if (!group.childElementCount) group.append(element("span", "small quiet", "Choose an adapter of a run above."));
    field.append(element("span", "label", NAMES[axis]), group);
    return field;
  }

  checkpoints() {
    const steps = this.run?.steps ?? [];
    const chosen = new Set(spread(steps, STEPS_AT_FIRST));
    return steps.map((step) => toggle(step, `step ${step}`, chosen.has(step)));
  }

  adapters() {
    const options = [...adapters.selectOf(this.first).options].filter((option) => option.value && adapters.fitsOf(option).includes(this.form.elements.model.value));
    return options.map((option, at) => toggle(option.value, option.textContent, at < ADAPTERS_AT_FIRST));
  }

  valuesOf(axis, asked) {
    if (axis === "strength") return adapters.strengthsOf(this.first).map(Number);
    if (axis === "prompt") return ($("#axis-prompts", this.values)?.value ?? "").split("\n").map((line) => line.trim()).filter(Boolean);
    if (axis === "seed") return Array.from({ length: Math.max(1, Number(asked.count) || 1) }, (_, at) => Number(asked.seed || 0) + at);
    return $$(`[data-values="${axis}"] input:checked`, this.values).map(({ value }) => Number(value));
  }

  request() {
    const { count, without, adapters: stack, ...asked } = this.asked();
    const { axes } = this;
    const numbers = { count, ...asked };
    const beside = stack.map(({ id, strengths }) => ({ id, strength: Number(strengths[0] ?? 1) }));
    const subject = axes.includes("checkpoint") || axes.includes("adapter"); // then the first adapter is one of the axis
    const body = { ...asked, axes: Object.fromEntries(axes.map((axis) => [axis, this.valuesOf(axis, numbers)])), adapters: subject ? beside.slice(1) : beside };
    if (axes.includes("checkpoint") && this.run) body.run_id = this.run.run;
    if (!axes.includes("strength") && stack.length) body.strength = beside[0].strength;
    if (axes.includes("seed")) delete body.seed;
    if (axes.includes("prompt")) delete body.prompt;
    return body;
  }

  async checkNow() {
    if (!this.isOn) return;
    const body = this.request();
    this.newest = body;
    let cost;
    try {
      cost = await api("POST", "/grids/check", body);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      cost = { pictures: 0, words: "", problems: [{ field: "", message: error.message }] };
    }
    if (!this.isOn || this.newest !== body) return;
    write($("#grid-error"), cost.problems.map(({ field, message }) => `${field.replace("axes.", "").replace(/^./, (first) => first.toUpperCase())} ${message}.`.trim().replace("..", ".")).join(" "));
    const time = cost.words.split(", ")[1] ?? "";
    this.onCost(cost.pictures ? `Draw ${cost.pictures}` : "Draw", time, cost.pictures ? `${plural(cost.pictures, "picture")}, a run that waits goes first` : "");
  }
}
