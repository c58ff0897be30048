// The contact sheet of a run: what it draws, what that costs, its pictures as they come, the star, and earlier sheets.

import { api, quietly } from "../lib/api.js";
import { $, $$, page, show, throttled, write } from "../lib/dom.js";
import { onPress, onSubmit, showErrors, showFieldErrors } from "../lib/forms.js";
import { openLightbox } from "../lib/lightbox.js";
import { onBack } from "../lib/server.js";
import { Blind } from "./blind.js";
import { SheetTable, writeProgress } from "./sheet_table.js";

const POLL_MS = { running: 700, queued: 4000 };
const FIELDS = ["axes.checkpoint", "axes.strength", "axes.prompt", "axes", "seed"];
const HINT = "Arrow keys walk the sheet, S stars the step";
const WAYS = { left: "Picture to the left", right: "Picture to the right", up: "Earlier step", down: "Later step" };
const GOING = ["queued", "running"];

// At most `count` of `steps`, evenly, the last one always.
export function evenly(steps, count) {
  if (steps.length <= count) return steps;
  return Array.from({ length: count }, (_, number) => steps[Math.round(((number + 1) * steps.length) / count) - 1]);
}

export class Sheet {
  constructor(run, checkpoints, samples) {
    Object.assign(this, { run, checkpoints, data: JSON.parse($("#sheet-data").textContent), grids: [], grid: null, star: null, touched: false, timer: null });
    this.form = $("#sheet-form");
    this.table = new SheetTable($("#sheet-table"));
    this.blind = new Blind(run, checkpoints, samples, () => this.grids);
    this.fill();
    this.listen();
    this.checkSoon = throttled(300, () => quietly(this.check()));
    this.draw();
    quietly(this.load());
  }

  fill() {
    $("#sheet-strengths").value = this.data.strengths.join(" ");
    $("#sheet-seed").value = this.data.request.seed;
    $("#sheet-prompts").value = this.data.prompts.join("\n");
  }

  listen() {
    this.form.addEventListener("input", () => { this.touched = true; this.drawChosen(); this.checkSoon(); });
    onSubmit(this.form, async () => {
      const { grid_id: id } = await api("POST", "/grids", this.body);
      await this.load(id);
      $("#sheet-bar").scrollIntoView({ block: "nearest" });
    }, (form, error) => { $("#sheet-choice").open = true; showErrors(form, error); });
    onPress($("#sheet-stop"), () => this.act("stop"), $("[data-error]", this.form));
    onPress($("#sheet-resume"), () => this.act("retry"), $("[data-error]", this.form));
    $("#sheet-pick").addEventListener("change", (event) => this.pick(this.grids.find(({ id }) => id === Number(event.target.value))));
    onSubmit($("#delete-sheet form"), async () => {
      await api("DELETE", `/grids/${this.grid.id}`);
      $("#delete-sheet").close();
      await this.load();
    });
    $("#sheet-table").addEventListener("click", (event) => {
      const cell = event.target.closest("button.cell");
      if (cell) openLightbox(cell, (from, way) => this.table.neighbour(from, way), HINT, { labels: WAYS, act: this.starring });
    });
    onBack(() => quietly(this.load(this.grid?.id)));
  }

  // What the star in the large view does.
  get starring() {
    const stepOf = (cell) => Number(cell.dataset.checkpoint);
    return {
      label: (cell) => `Star step ${stepOf(cell)}`,
      shown: (cell) => this.checkpoints.all.has(stepOf(cell)),
      pressed: (cell) => this.checkpoints.starred === stepOf(cell),
      run: (cell) => this.checkpoints.star(stepOf(cell), this.checkpoints.starred !== stepOf(cell)),
      cell: (cell) => $(`[data-number="${cell.dataset.number}"]`, this.table.table) ?? cell, // a star draws its cell anew
    };
  }

  get chosen() {
    return $$("#sheet-steps input:checked").map((box) => Number(box.value));
  }

  get body() {
    const lines = $("#sheet-prompts").value.split("\n").map((line) => line.trim()).filter(Boolean);
    const strengths = $("#sheet-strengths").value.trim().split(/[\s;]+|,\s+/).filter(Boolean);
    return { ...this.data.request, seed: $("#sheet-seed").value.trim() || null, axes: { checkpoint: this.chosen, prompt: lines, strength: strengths } };
  }

  // The checkpoints to choose from; until the user chooses, some are chosen evenly.
  draw() {
    const { steps, starred } = this.checkpoints;
    const box = $("#sheet-steps");
    const known = $$("input", box).map((each) => Number(each.value));
    if (known.join() !== steps.join()) {
      const chosen = this.touched ? this.chosen : evenly(steps, this.data.checkpoints);
      box.replaceChildren(...steps.map((step) => this.chip(step, chosen.includes(step))));
      this.drawChosen();
      if (steps.length) this.checkSoon();
    }
    show($("#compare-blind"), steps.length > 1);
    if (this.grid && starred !== this.star) this.drawTable();
  }

  drawTable() {
    this.star = this.checkpoints.starred;
    this.table.draw(this.grid, this.star);
  }

  chip(step, checked) {
    const label = document.createElement("label");
    label.append(Object.assign(document.createElement("input"), { type: "checkbox", value: step, checked }), `Step ${step}`);
    return label;
  }

  drawChosen() {
    const { axes } = this.body;
    write($("#sheet-chosen"), `${axes.checkpoint.length} checkpoints × ${axes.strength.length} strengths × ${axes.prompt.length} prompts`);
  }

  async check() {
    const { pictures, words, problems } = await api("POST", "/grids/check", this.body);
    write($("#sheet-draw span"), pictures ? `Draw ${words.replace(/ pictures?/, "")}` : "Draw the sheet");
    showFieldErrors(this.form, FIELDS, problems, this.touched);
    const others = problems.filter(({ field }) => !FIELDS.includes(field));
    write($("[data-error]", this.form), others.map(({ field, message }) => `${field} ${message}.`).join(" "));
  }

  // Every sheet of the run; shows the one with this id, else the newest.
  async load(id) {
    this.grids = (await api("GET", `/grids?run=${this.run}&limit=1000`)).reverse();
    const pick = $("#sheet-pick");
    pick.replaceChildren(...this.grids.map((grid) => new Option(this.title(grid), grid.id)));
    show(pick, this.grids.length > 1);
    this.pick(this.grids.find((grid) => grid.id === id) ?? this.grids[0] ?? null);
  }

  title(grid) {
    const at = new Date(grid.created_at).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
    return `${grid.pictures.length} pictures, ${at}`;
  }

  pick(grid) {
    this.grid = grid;
    show($("#sheet-bar"), grid !== null);
    show($("#sheet-scroll"), grid !== null);
    if (!grid) {
      this.table.clear();
      this.showActs();
      return;
    }
    $("#sheet-pick").value = grid.id;
    const file = $("#sheet-file");
    file.href = `/api/grids/${grid.id}/sheet`;
    this.follow();
  }

  // Draw what is there, and look again while there is more to come.
  follow() {
    clearTimeout(this.timer);
    const { grid } = this;
    this.drawTable();
    writeProgress($("#sheet-words"), grid);
    show($("#sheet-file"), grid.pictures.some(({ url }) => url));
    this.showActs();
    if (GOING.includes(grid.state)) this.timer = setTimeout(() => this.look(grid.id), POLL_MS[grid.state]);
  }

  async look(id) {
    const fresh = document.hidden ? null : await api("GET", `/grids/${id}`).catch(() => null);
    if (this.grid?.id !== id) return;
    if (fresh) {
      this.grid = fresh;
      this.grids = this.grids.map((each) => (each.id === id ? fresh : each));
    }
    this.follow();
  }

  showActs() {
    const state = this.grid?.state;
    const left = this.grid?.pictures.some(({ url, problem }) => !url && !problem);
    show($("#sheet-stop"), GOING.includes(state));
    show($("#sheet-resume"), ["stopped", "failed"].includes(state) && left);
    show($("#sheet-delete"), Boolean(this.grid) && state !== "running");
  }

  async act(verb) {
    await api("POST", `/jobs/${this.grid.job_id}/${verb}`);
    await this.look(this.grid.id);
  }
}
