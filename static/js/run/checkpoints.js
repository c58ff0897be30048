// The list of checkpoints, the newest first: its star, its pictures, how good it is, and what can be done with it.

import { $, $$, copy, show, toast, write } from "../lib/dom.js";
import { api } from "../lib/api.js";
import { fileSize } from "../lib/format.js";
import { CheckpointDisk, trainOn } from "./checkpoint_disk.js";

const PICTURES = 4;

export class Checkpoints {
  // `look(step)` shows a step above, `changed()` is called when the list or a star has changed.
  constructor(run, samples, list, { look, changed }) {
    this.run = run;
    this.samples = samples;
    this.all = new Map(list.map((one) => [one.step, { size: one.adapter_bytes, starred: one.starred }]));
    this.measures = new Map(); // step -> {held_out, bar, close, words}
    this.best = null;
    this.changed = changed;
    this.box = $("#checkpoints");
    this.disk = new CheckpointDisk(run, this);
    this.box.addEventListener("click", (event) => {
      const step = Number(event.target.closest("li")?.dataset.step);
      if (event.target.closest("[data-star]")) this.star(step, !this.all.get(step).starred);
      if (event.target.closest("[data-look]")) look(step);
      if (event.target.closest("[data-export]")) openExport(step);
    });
  }

  get steps() {
    return [...this.all.keys()].sort((a, b) => a - b);
  }

  get starred() {
    return this.steps.find((step) => this.all.get(step).starred) ?? null;
  }

  add(step, size) {
    this.all.set(step, { size, starred: this.all.get(step)?.starred ?? false });
    this.changed();
  }

  rewind(step) {
    for (const known of this.steps) if (known > step) this.all.delete(known);
    this.changed();
  }

  remove(steps) {
    for (const step of steps) this.all.delete(step);
    this.changed();
  }

  restore(checkpoints) {
    for (const { step, adapter_bytes: size, starred } of checkpoints) this.all.set(step, { size, starred });
    this.changed();
  }

  // Stars and scores as the server has them. A step that it lacks, and that is older than its newest, was deleted.
  update(checkpoints, { step, measures }) {
    const there = new Set(checkpoints.map((one) => one.step));
    for (const known of this.steps) if (!there.has(known) && known < Math.max(...there)) this.all.delete(known);
    for (const one of checkpoints) if (this.all.has(one.step)) this.all.get(one.step).starred = one.starred;
    this.measures = new Map(measures.map((one) => [one.step, one]));
    this.best = step;
    this.changed();
  }

  async star(step, starred) {
    const before = this.starred;
    const give = async (to, yes) => {
      await api("PATCH", `/runs/${this.run}/checkpoints/${to}`, { starred: yes });
      for (const [known, one] of this.all) if (known === to || yes) one.starred = yes && known === to;
      this.changed();
    };
    try {
      await give(step, starred);
      const words = starred ? `Step ${step} has the star: it is downloaded and drawn with.` : `Step ${step} has no star any more.`;
      if (await toast(words, { undo: "Undo" })) await (before === null ? give(step, false) : give(before, true));
    } catch (error) {
      if (!("problems" in error)) throw error;
      toast(error.message);
    }
  }

  draw(shown) {
    for (const line of $$("li", this.box)) if (!this.all.has(Number(line.dataset.step))) line.remove();
    for (const step of this.steps.reverse()) this.drawLine(step, shown);
    show($("#no-checkpoints"), !this.all.size);
    this.disk.draw();
  }

  drawLine(step, shown) {
    const { size, starred } = this.all.get(step);
    const line = $(`[data-step="${step}"]`, this.box) ?? this.newLine(step);
    line.classList.toggle("best", step === this.best);
    line.classList.toggle("on", step === shown);
    const star = $("[data-star]", line);
    star.setAttribute("aria-pressed", starred);
    star.setAttribute("aria-label", `Star step ${step}`);
    show($(".pill", line), step === this.best);
    write($("[data-size]", line), size ? fileSize(size) : "its file is gone");
    const measure = this.measures.get(step);
    write($("[data-measure]", line), measure ? ` · ${measure.words}` : "");
    this.drawPictures($("[data-look]", line), step);
  }

  newLine(step) {
    const line = copy("checkpoint-template");
    line.dataset.step = step;
    $(".acts", line).append(copy("checkpoint-menu-template"));
    write($("h3 span", line), `Step ${step}`);
    const file = `/api/runs/${this.run}/adapter?step=${step}`;
    for (const [part, words, href] of [
      ["draw", "Draw with the adapter of", `/pictures?run=${this.run}&step=${step}`],
      ["download", "Download the adapter of", file],
      ["export", "Send the adapter of"],
      ["look", "Show the pictures of"],
      ["continue", "Train on from", trainOn(this.run, step)],
      ["delete", "Delete"],
    ]) {
      const element = $(`[data-${part}]`, line);
      element.setAttribute("aria-label", `${words} step ${step}`);
      if (href) element.href = href;
    }
    $("summary", line).setAttribute("aria-label", `More for step ${step}`);
    const later = $$("li", this.box).find((one) => Number(one.dataset.step) < step);
    this.box.insertBefore(line, later ?? null);
    return line;
  }

  // The newest samples at or before the checkpoint.
  drawPictures(button, step) {
    const pictures = this.samples.prompts.map(({ id }) => this.samples.at(step, id)).filter((one) => one && one.step <= step);
    const urls = pictures.slice(0, PICTURES).map(({ url }) => url);
    show(button, urls.length > 0);
    if (button.dataset.urls === urls.join()) return;
    button.dataset.urls = urls.join();
    button.replaceChildren(...urls.map((url) => Object.assign(new Image(), { alt: "", src: url, loading: "lazy" })));
  }
}

function openExport(step) {
  $("[data-open=export]").click();
  const select = $("#export-form").elements.step;
  select.value = step;
  select.dispatchEvent(new Event("change", { bubbles: true }));
}
