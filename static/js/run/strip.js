// The filmstrip under the large pictures: a column of thumbnails for each step, a row for each prompt, on the axis of the
// chart, so that a step is at the same place in both. Where there are more steps than room, some are left out; the scrubber
// and the arrow keys reach every one.

import { $, $$, icon, show, write } from "../lib/dom.js";

const GAP_PX = 6;
const SIDES_PX = { wide: [72, 60, 48, 40], narrow: [46, 40, 34, 30] }; // of a thumbnail, by the number of prompts
const NARROW_PX = 560;
const LABEL_PX = 58;
const PLAY_MS = 600;

export class Strip {
  // `go(step)` is called when the user chooses a step, `turn(way)` for another prompt.
  constructor(samples, { total, go, turn }) {
    this.samples = samples;
    this.total = total; // () => the run's steps
    this.go = go;
    this.turn = turn;
    this.frames = $("#frames");
    this.scrub = $("#scrub");
    this.ticks = $("#ticks");
    this.buttons = new Map(); // step -> its frame
    this.shown = { step: 0, best: null, starred: null, checkpoints: new Set(), running: false };
    this.film = null;
    this.frames.addEventListener("click", (event) => this.choose(event.target.closest("[data-step]")));
    this.scrub.addEventListener("input", () => this.go(Number(this.scrub.value)));
    $("#play").addEventListener("click", () => this.play());
    new ResizeObserver(() => this.draw()).observe(this.frames);
    for (const one of [this.frames, this.scrub]) one.addEventListener("keydown", (event) => this.onKey(event));
  }

  choose(button) {
    if (!button) return;
    this.go(Number(button.dataset.step));
    button.focus();
  }

  onKey(event) {
    const { step } = this.shown;
    const inFrames = this.frames.contains(event.target);
    const ways = { ArrowLeft: -1, ArrowRight: 1 };
    if (event.key in ways) this.go(this.samples.beside(step, ways[event.key]));
    else if (event.key === "ArrowUp" || event.key === "ArrowDown") this.turn(event.key === "ArrowUp" ? -1 : 1);
    else if (event.key === "Home") this.go(0);
    else if (event.key === "End") this.go(this.samples.newest);
    else return;
    event.preventDefault();
    event.stopPropagation();
    if (inFrames) this.buttons.get(this.shown.step)?.focus();
  }

  // Walk the steps once, from the shown one, or from the first when the last is shown. A second press ends it.
  play() {
    const stop = () => { clearInterval(this.film); this.film = null; this.drawPlay(); };
    if (this.film) return stop();
    const { steps } = this.samples;
    let place = Math.max(steps.indexOf(this.shown.step), 0);
    if (place === steps.length - 1) this.go(steps[(place = 0)]);
    this.film = setInterval(() => {
      place += 1;
      if (place < steps.length) this.go(steps[place]);
      if (place >= steps.length - 1) stop();
    }, PLAY_MS);
    this.drawPlay();
  }

  drawPlay() {
    const button = $("#play");
    const playing = this.film !== null;
    $("svg", button).replaceWith(icon(playing ? "stop" : "play"));
    button.setAttribute("aria-label", playing ? "Stop playing" : "Play the steps");
    button.disabled = this.samples.steps.length < 2;
  }

  // Where a step is, in pixels from the left of the strip.
  place(step) {
    const style = getComputedStyle(this.frames);
    const [left, right] = ["--axis-left", "--axis-right"].map((name) => parseFloat(style.getPropertyValue(name)));
    return left + (step / Math.max(this.total(), 1)) * (this.frames.clientWidth - left - right);
  }

  // The steps of which a frame fits: the first, the last, and between them each that is far enough from the one before.
  fitting(gap) {
    const [first, last] = [this.samples.steps[0], this.samples.newest];
    const kept = [];
    if (first === undefined) return kept;
    for (const step of this.samples.steps) {
      const at = this.place(step);
      const room = step === last || this.place(last) - at >= gap;
      if (!kept.length || (room && at - this.place(kept.at(-1)) >= gap)) kept.push(step);
    }
    if (kept.at(-1) !== last && last !== first) kept.push(last);
    return kept;
  }

  update(shown) {
    Object.assign(this.shown, shown);
    this.draw();
  }

  draw() {
    if (!this.frames.clientWidth) return;
    const rows = Math.max(Math.min(this.samples.prompts.length, 4), 1);
    const side = SIDES_PX[this.frames.clientWidth < NARROW_PX ? "narrow" : "wide"][rows - 1];
    this.frames.style.setProperty("--side", `${side}px`);
    this.frames.style.setProperty("--frames-height", `${this.samples.prompts.length * (side + 2) + 8}px`);
    const kept = this.fitting(side + GAP_PX);
    const wanted = new Set([...kept, ...(this.samples.steps.length ? [this.shown.step] : [])]);
    for (const [step, button] of this.buttons) if (!wanted.has(step)) { button.remove(); this.buttons.delete(step); }
    for (const step of [...wanted].sort((a, b) => a - b)) this.drawFrame(step);
    this.drawNext(kept, side);
    this.drawScrub();
    this.drawTicks(kept);
    this.drawPlay();
  }

  drawFrame(step) {
    let button = this.buttons.get(step);
    if (!button) {
      button = document.createElement("button");
      button.type = "button";
      button.className = "frame";
      button.dataset.step = step;
      this.buttons.set(step, button);
      this.frames.insertBefore(button, $$("[data-step]", this.frames).find((one) => Number(one.dataset.step) > step) ?? null);
    }
    const current = step === this.shown.step;
    button.style.left = `${this.place(step)}px`;
    button.setAttribute("aria-label", this.words(step));
    button.setAttribute("aria-current", current);
    button.tabIndex = current ? 0 : -1;
    const drawn = this.samples.drawn.get(step);
    this.samples.prompts.forEach(({ id }, place) => {
      const image = button.children[place] ?? button.appendChild(Object.assign(new Image(), { alt: "", draggable: false }));
      const url = drawn?.get(id)?.url;
      if (url && image.getAttribute("src") !== url) image.src = url;
      image.classList.toggle("missing", !url);
    });
  }

  // The place of the samples that come next.
  drawNext(kept, side) {
    let next = $(".frame.coming", this.frames);
    const step = this.shown.running ? this.samples.next(this.total()) : null;
    const fits = step !== null && (!kept.length || this.place(step) - this.place(kept.at(-1)) >= side + GAP_PX);
    if (!fits) return next?.remove();
    if (!next) {
      next = document.createElement("span");
      next.className = "frame coming";
      next.append(document.createElement("span"));
      this.frames.append(next);
    }
    next.style.left = `${this.place(step)}px`;
    write(next.firstChild, step ? `at ${step}` : "first");
  }

  drawScrub() {
    const { step } = this.shown;
    this.scrub.max = this.total();
    this.scrub.value = step;
    this.scrub.disabled = !this.samples.steps.length;
    this.scrub.setAttribute("aria-valuetext", this.words(step));
  }

  drawTicks(kept) {
    let last = -Infinity;
    const labels = [];
    for (const step of kept) {
      const [at, end] = [this.place(step), this.place(this.samples.newest)];
      if (at - last < LABEL_PX || (step !== this.samples.newest && end - at < LABEL_PX)) continue;
      last = at;
      const label = document.createElement("span");
      label.textContent = step === 0 ? `0, ${this.samples.base ?? ""}`.replace(/, $/, "") : step.toLocaleString("en");
      label.style.left = `${at}px`;
      label.classList.toggle("on", step === this.shown.step);
      if (step === this.shown.starred) label.append(icon("star", "full"));
      else if (this.shown.checkpoints.has(step)) label.append(icon("diamond", "full saved"));
      labels.push(label);
    }
    this.ticks.replaceChildren(...labels);
  }

  words(step) {
    const { best, starred } = this.shown;
    const extra = [step === starred ? "starred" : "", step === best ? "the best by score" : ""].filter(Boolean);
    return [`Step ${step}`, ...extra].join(", ");
  }

  // The line of the chart's cursor; null: none.
  hover(step) {
    let line = $(".strip-cursor", this.frames);
    if (step === null) return line && show(line, false);
    if (!line) {
      line = document.createElement("i");
      line.className = "strip-cursor";
      this.frames.append(line);
    }
    show(line);
    line.style.left = `${this.place(step)}px`;
  }
}
