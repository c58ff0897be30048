// Checkpoints on the disk: deleting them and taking that back, how much they take, keeping only some, the mean of several.

import { api, quietly } from "../lib/api.js";
import { $, $$, copy, page, show, throttled, toast, write } from "../lib/dom.js";
import { fileSize, plural } from "../lib/format.js";
import { onPress, onSubmit } from "../lib/forms.js";
import { wording } from "../lib/wording.js";

const POLL_MS = 400;
const ENDED = ["succeeded", "failed", "stopped", "cancelled"];

export class CheckpointDisk {
  constructor(run, checkpoints) {
    Object.assign(this, { run, checkpoints, spare: [], averages: [], known: "" });
    this.refreshSoon = throttled(600, () => quietly(this.refresh()));
    $("#checkpoints").addEventListener("click", (event) => {
      if (event.target.closest("[data-delete]")) this.remove(Number(event.target.closest("li").dataset.step));
    });
    onPress($("#thin"), () => this.thin(), $("#action-error"));
    $("#average").addEventListener("opened", () => this.chooseSteps());
    onSubmit($("#average-form"), (form) => this.average(form));
    $("#averages").addEventListener("click", (event) => {
      if (event.target.closest("[data-delete]")) this.askForAverage(Number(event.target.closest("li").dataset.adapter));
    });
    onSubmit($("#delete-average form"), async () => {
      await api("DELETE", `/adapters/${$("#delete-average").dataset.adapter}`);
      $("#delete-average").close();
      await this.listAverages();
    });
    quietly(this.listAverages());
  }

  // Called whenever the list may have changed.
  draw() {
    const steps = this.checkpoints.steps.join();
    const changed = steps !== this.known || this.checkpoints.starred !== this.star || this.checkpoints.best !== this.best;
    Object.assign(this, { known: steps, star: this.checkpoints.starred, best: this.checkpoints.best });
    show($("#open-average"), this.checkpoints.steps.length > 1);
    if (changed && steps) this.refreshSoon();
    if (!steps) show($("#run-disk"), false);
  }

  async refresh() {
    const disk = await api("GET", `/runs/${this.run}/disk`);
    this.spare = disk.spare_steps;
    show($("#run-disk"), this.checkpoints.all.size > 0);
    const used = disk.checkpoints + disk.rest;
    const parts = $$("#run-disk .meter i");
    [disk.checkpoints, disk.rest].forEach((bytes, part) => { parts[part].style.width = `${used ? (100 * bytes) / used : 0}%`; });
    write($("#run-disk-words"), `Checkpoints ${fileSize(disk.checkpoints)}, the rest of the run ${fileSize(disk.rest)}; the disk has ${fileSize(disk.free)} free.`);
    show($("#thin"), this.spare.length > 0);
    write($("#thin"), `Keep only the starred, the newest and the best: frees ${fileSize(disk.spare_bytes)}`);
  }

  async remove(step) {
    try {
      await api("DELETE", `/runs/${this.run}/checkpoints/${step}`);
    } catch (error) {
      if (!("problems" in error)) throw error;
      toast(error.message);
      return;
    }
    await this.removed([step], `Step ${step} is in the trash.`);
  }

  async thin() {
    const { steps, bytes } = await api("POST", `/runs/${this.run}/thin`, { keep: this.checkpoints.all.size - this.spare.length });
    await this.removed(steps, `${plural(steps.length, "checkpoint")} in the trash, ${fileSize(bytes)}.`);
  }

  async removed(steps, words) {
    this.checkpoints.remove(steps);
    if (!(await toast(words, { undo: "Undo" }))) return;
    try {
      for (const step of steps) this.checkpoints.restore(await api("POST", `/runs/${this.run}/checkpoints/${step}/restore`));
    } catch (error) {
      if (!("problems" in error)) throw error;
      toast(error.message);
    }
  }

  // ---- the mean of several ----

  chooseSteps() {
    write($("#average-words"), "");
    const chips = this.checkpoints.steps.map((step) => {
      const label = document.createElement("label");
      label.append(Object.assign(document.createElement("input"), { type: "checkbox", value: step }), `Step ${step}`);
      return label;
    });
    $("#average-steps").replaceChildren(...chips);
  }

  async average(form) {
    const steps = $$("#average-steps input:checked").map((box) => Number(box.value));
    const { job_id: id } = await api("POST", `/runs/${this.run}/averages`, { steps, name: form.elements.name.value });
    for (;;) {
      const job = await api("GET", `/jobs/${id}`);
      write($("#average-words"), job.state === "queued" ? wording.queued : job.phase);
      if (job.state === "succeeded") break;
      if (ENDED.includes(job.state)) {
        write($("#average-words"), job.error?.message ?? "It was stopped.");
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    await this.listAverages();
    $("#average").close();
    toast(`${this.averages.at(-1).name} is ready to draw with.`);
  }

  async listAverages() {
    this.averages = await api("GET", `/runs/${this.run}/averages`);
    $("#averages").replaceChildren(...this.averages.map((one) => this.averageLine(one)));
  }

  averageLine({ id, name, rank, file_url: file }) {
    const line = copy("average-template");
    line.dataset.adapter = id;
    write($("h3 span", line), name);
    write($(".what p", line), `average, rank ${rank}`);
    for (const [part, words, href] of [["draw", "Draw with", `/pictures?adapter=${id}`], ["download", "Download", file], ["delete", "Delete"]]) {
      const element = $(`[data-${part}]`, line);
      element.setAttribute("aria-label", `${words} ${name}`);
      if (href) element.href = href;
    }
    return line;
  }

  askForAverage(id) {
    const dialog = $("#delete-average");
    dialog.dataset.adapter = id;
    dialog.showModal();
  }
}

export const trainOn = (run, step) => `/projects/${page.dataset.project}/train?again=${run}&step=${step}`;
