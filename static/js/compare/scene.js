// The pictures of several runs for one prompt, side by side: each run stands where a prompt does on a run's own page.

import { $$ } from "../lib/dom.js";
import { Samples } from "../run/samples.js";
import { Scene } from "../run/scene.js";
import { Strip } from "../run/strip.js";

// What the runs drew for one prompt. With `own`, a map from run to step, each is shown at a step of its own.
export class RunsSamples extends Samples {
  constructor(runs, { samples }) {
    const pictures = samples.map((sample) => ({ ...sample, prompt_id: sample.run_id }));
    super({ prompts: runs.map(({ id, label }) => ({ id, text: label })), samples: pictures, every: 0 });
    this.own = null;
    this.base = "the base";
  }

  at(step, run) {
    return super.at(this.own?.get(run) ?? step, run);
  }
}

export class RunsScene extends Scene {
  get runs() {
    return this.samples.prompts;
  }

  // Another prompt, at the same step.
  change(samples) {
    samples.own = this.samples.own;
    this.samples = samples;
    this.step = samples.nearest(this.step);
    this.draw();
  }

  go(step) {
    this.samples.own = null;
    super.go(step);
  }

  // Each run at its own step, where one is known.
  showOwn(steps) {
    this.samples.own = steps;
    this.draw();
  }

  choices() {
    return [...this.runs.map(({ id, text }) => [`run ${id}`, text]), ...super.choices()];
  }

  other(run) {
    const [kind, value] = this.against.split(" ");
    if (kind !== "run") return super.other(run);
    const picture = this.samples.at(this.step, Number(value));
    return picture ? [picture, this.runs.find(({ id }) => id === Number(value)).text] : null;
  }

  whenEmpty() {
    return "It has no picture of this prompt";
  }

  // All are of the same size.
  draw() {
    super.draw();
    this.box.dataset.count = "many";
    this.box.dataset.runs = this.runs.length;
    for (const shot of $$(".shot", this.box)) shot.classList.add("large");
  }
}

// The filmstrip, with a ring around the picture of each run's suggested checkpoint.
export class RunsStrip extends Strip {
  change(samples) {
    this.samples = samples;
    for (const button of this.buttons.values()) button.remove();
    this.buttons.clear();
  }

  drawFrame(step) {
    super.drawFrame(step);
    const images = this.buttons.get(step).children;
    this.samples.prompts.forEach(({ id }, place) => images[place].classList.toggle("suggested", this.shown.suggested?.get(id) === step));
  }

  words(step) {
    const of = this.samples.prompts.filter(({ id }) => this.shown.suggested?.get(id) === step).map(({ text }) => text);
    return of.length ? `${super.words(step)}, suggested of ${of.join(", ")}` : super.words(step);
  }
}
