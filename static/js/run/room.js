// What ties the large pictures, the filmstrip, the charts, the checkpoints and the photos of the set together: one step, shown
// in all of them.

import { $, $$, page, show, write } from "../lib/dom.js";
import { Charts } from "./charts.js";
import { Checkpoints } from "./checkpoints.js";
import { ChoiceCard } from "./choice.js";
import { Samples } from "./samples.js";
import { Scene } from "./scene.js";
import { Sheet } from "./sheet.js";
import { Strip } from "./strip.js";

const parse = (id) => JSON.parse(document.getElementById(id).textContent);
const TYPING = "input, select, textarea, [contenteditable], dialog, .table-box, .log";

export class Room {
  // `now` is the run's {state, step, steps}, kept by the page; `onLoss` gets the smoothed loss as text.
  constructor(run, now, onLoss) {
    this.now = now;
    this.data = parse("scene-data");
    this.samples = Object.assign(new Samples(this.data), { base: this.data.base });
    this.card = new ChoiceCard(run, parse("choice-data"));
    this.charts = new Charts({
      onLoss,
      total: () => this.now.steps,
      pictures: (step) => this.picturesAt(step),
      onHover: (step) => this.strip.hover(step),
      onPick: (step) => this.scene.go(this.samples.before(step)),
    });
    const look = (step) => { this.scene.go(step); $("#stage").scrollIntoView({ block: "nearest" }); };
    this.checkpoints = new Checkpoints(run, this.samples, this.data.checkpoints, { look, changed: () => this.draw() });
    this.strip = new Strip(this.samples, { total: () => this.now.steps, go: (step) => this.scene.go(step), turn: (way) => this.scene.turn(way) });
    const { base, photos } = this.data;
    this.scene = new Scene(this.samples, { base, photos, state: () => this.now.state, onShow: () => this.draw() });
    this.listPhotos();
    this.checkpoints.update(this.data.checkpoints, this.card.suggestion);
    if (!["queued", "running"].includes(now.state)) this.scene.step = this.samples.before(this.used ?? this.samples.newest);
    this.sheet = new Sheet(run, this.checkpoints, this.samples);
    this.scene.draw();
    this.scene.wipe(0);
    this.listen();
    page.classList.add("drawn");
  }

  listen() {
    const stage = $("#stage");
    const whole = $("#whole-screen");
    show(whole, document.fullscreenEnabled);
    whole.addEventListener("click", () => (document.fullscreenElement ? document.exitFullscreen() : stage.requestFullscreen()));
    document.addEventListener("keydown", (event) => this.onKey(event));
  }

  // Left and right walk the steps wherever nothing else takes these keys.
  onKey(event) {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.target.closest(TYPING)) return;
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!way || $("dialog[open]") || !this.samples.steps.length) return;
    event.preventDefault();
    this.scene.move(way);
  }

  // The checkpoint that is downloaded and drawn with: the starred one before the best; null before there is either.
  get used() {
    return this.checkpoints.starred ?? this.checkpoints.best;
  }

  picturesAt(step) {
    const shown = this.samples.prompts.map(({ id }) => this.samples.at(step, id));
    return shown.filter((one) => one && one.step <= step).map(({ url }) => url);
  }

  // Everything that shows the step, or a checkpoint.
  draw() {
    if (!this.scene) return;
    const { scene, checkpoints, samples, now } = this;
    const { best, starred, steps } = checkpoints;
    const { step } = scene;
    this.strip.update({ step, best, starred, checkpoints: new Set(steps), running: now.state === "running" || now.state === "queued" });
    checkpoints.draw(step);
    this.card.draw(now.state, checkpoints);
    this.charts.mark(steps, samples.steps);
    this.charts.head(samples.steps.length ? step : null);
    write($("#shown-step"), samples.steps.length ? `Step ${step.toLocaleString("en")}${step ? "" : `, ${this.data.base}`}` : "No picture yet");
    const pill = step === starred ? "your star" : step === best ? "best by score" : "";
    show($("#shown-pill"), Boolean(pill) && samples.steps.length > 0);
    write($("#shown-pill span"), pill);
    for (const link of $$("[data-film]")) show(link, samples.steps.length > 1);
    const drawn = samples.prompts.length > 0;
    show($("#stage"), drawn);
    show($("#no-samples"), !drawn);
    for (const button of $$("#set button")) button.setAttribute("aria-pressed", scene.against === `photo ${button.dataset.photo}`);
    this.sheet?.draw();
  }

  // The photos of the set beside the pictures; a press wipes against one, a second press ends that.
  listPhotos() {
    const { photos } = this.data;
    show($("#set-photos"), photos.length > 0);
    write($("#set-title"), photos.length === 1 ? "The photo of the set" : `The ${photos.length} photos of the set`);
    show($("#set-hint"), this.samples.prompts.length > 0);
    const set = $("#set");
    set.replaceChildren(...photos.map(({ id, name, thumb_url: thumb }) => {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.photo = id;
      button.setAttribute("aria-label", `Compare with ${name}`);
      button.append(Object.assign(new Image(), { src: thumb, alt: "", loading: "lazy" }));
      return button;
    }));
    set.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button || !this.samples.steps.length) return;
      const chosen = `photo ${button.dataset.photo}`;
      const ends = this.scene.against === chosen;
      this.scene.compare(ends ? `step ${this.samples.steps[0]}` : chosen);
      if (ends) this.scene.wipe(0);
    });
  }

  // Photos that the run is scored on and has never seen.
  markUnseen(scores) {
    for (const { photo_id: id, held_out: unseen } of scores) {
      const button = $(`#set [data-photo="${id}"]`);
      if (!button || !unseen || $(".tag", button)) continue;
      button.append(Object.assign(document.createElement("span"), { className: "tag", textContent: "unseen" }));
      button.setAttribute("aria-label", `${button.getAttribute("aria-label")}, unseen in training`);
    }
  }

  // What the server has said again: which checkpoint is best, and the stars.
  update({ suggestion, checkpoints, photo_scores: scores }) {
    this.card.suggestion = suggestion;
    this.checkpoints.update(checkpoints, suggestion);
    this.markUnseen(scores);
  }

  rewind(step) {
    this.charts.rewind(step);
    this.scene.rewind(step);
    this.checkpoints.rewind(step);
  }
}
