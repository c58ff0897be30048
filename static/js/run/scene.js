// The large pictures: the samples of one step, each wiped against the same prompt at another step, or against a photo.
// One prompt is the large one; a range over each plate moves the wipe, so mouse, finger and arrow keys all do.

import { $, copy, show, write } from "../lib/dom.js";
import { setImage, setWipe } from "../lib/wipe.js";

const BESIDE_AT_MOST = 4; // plates under one another, beside the large one
const HALF = 50;

export class Scene {
  // `onShow(scene)` is called whenever another step is shown.
  constructor(samples, { base, photos, state, onShow }) {
    this.samples = samples;
    this.base = base;
    this.photos = photos;
    this.state = state; // () => the run's state
    this.onShow = onShow;
    this.box = $("#shots");
    this.select = $("#against");
    this.step = samples.newest;
    this.large = samples.prompts[0]?.id ?? 0;
    this.against = "step 0";
    this.fetched = new Set();
    this.share = 0; // of the plate that shows the other picture, in percent
    this.box.addEventListener("input", (event) => event.target.matches(".wipe") && this.wipe(Number(event.target.value)));
    this.box.addEventListener("click", (event) => {
      const button = event.target.closest(".enlarge");
      if (button) this.enlarge(Number(button.closest(".shot").dataset.prompt));
    });
    this.box.addEventListener("animationend", (event) => event.target.classList.remove("fresh"));
    this.select.addEventListener("change", () => this.compare(this.select.value));
  }

  // Whether the newest step is shown: then the next one is, too, when it comes.
  get follows() {
    return this.step === this.samples.newest;
  }

  go(step) {
    this.step = this.samples.nearest(step);
    this.draw();
  }

  move(way) {
    this.go(this.samples.beside(this.step, way));
  }

  enlarge(prompt) {
    this.large = prompt;
    this.draw();
  }

  // The prompt above (-1) or below (1) the large one.
  turn(way) {
    const ids = this.samples.prompts.map(({ id }) => id);
    this.enlarge(ids[(ids.indexOf(this.large) + way + ids.length) % ids.length]);
  }

  wipe(share) {
    this.share = share;
    setWipe(this.box, share);
  }

  compare(against) {
    this.against = against;
    this.draw();
    this.wipe(against === `step ${this.step}` ? 0 : HALF);
  }

  // A sample has come: it fades in where its step is shown. Where the newest step was shown, its step is shown from now on.
  add(step, sample) {
    const follow = this.follows || !this.samples.steps.length;
    if (!this.samples.add(step, sample)) return;
    if (follow && step > this.step) this.step = step;
    this.draw();
    const plate = $(`[data-prompt="${sample.prompt_id}"] .now`, this.box);
    if (step === this.step && plate) plate.classList.add("fresh");
  }

  rewind(step) {
    const follow = this.follows;
    this.samples.rewind(step);
    if (follow || this.step > step) this.step = this.samples.newest;
    this.draw();
  }

  // [picture, words] to wipe against for a prompt; null if there is none.
  other(prompt) {
    const [kind, value] = this.against.split(" ");
    if (kind === "photo") {
      const photo = this.photos.find(({ id }) => id === Number(value));
      return photo ? [{ url: photo.url }, photo.name] : null;
    }
    const picture = this.samples.drawn.get(Number(value))?.get(prompt);
    return picture ? [picture, Number(value) ? `step ${value}` : `step 0, ${this.base}`] : null;
  }

  draw() {
    const { prompts } = this.samples;
    const beside = Math.max(prompts.length - 1, 0);
    const rows = Math.max(Math.min(beside, BESIDE_AT_MOST), 1);
    this.box.style.setProperty("--rows", rows);
    this.box.style.setProperty("--columns", rows + Math.ceil(beside / rows));
    this.box.dataset.count = Math.min(prompts.length, 3);
    for (const prompt of prompts) this.drawShot(prompt);
    this.drawChoices();
    this.fetchAround();
    this.onShow(this);
  }

  drawShot({ id, text }) {
    let shot = $(`[data-prompt="${id}"]`, this.box);
    if (!shot) {
      shot = copy("shot-template");
      shot.dataset.prompt = id;
      $(".enlarge", shot).setAttribute("aria-label", `Show larger: ${text}`);
      $(".wipe", shot).setAttribute("aria-label", `Wipe: ${text}`);
      this.box.append(shot);
    }
    shot.classList.toggle("large", id === this.large);
    const picture = this.samples.at(this.step, id);
    const other = picture && this.other(id);
    const [caption, seed] = $("figcaption", shot).children;
    write(caption, text);
    write(seed, picture ? `seed ${picture.seed}` : "");
    this.drawPlate($(".plate", shot), text, picture, other);
  }

  drawPlate(plate, text, picture, other) {
    const now = $(".now", plate);
    const before = $(".before", plate);
    const isSame = !other || other[0].url === picture.url;
    plate.classList.toggle("waiting", !picture);
    plate.classList.toggle("single", isSame);
    show(now, Boolean(picture));
    show(before, !isSame);
    write($(".when", plate), picture ? "" : this.whenEmpty());
    if (!picture) return;
    plate.style.setProperty("--ratio", `${picture.width} / ${picture.height}`);
    setImage(now, picture.url, `Step ${picture.step}: ${text}`);
    if (!isSame) setImage(before, other[0].url, `${other[1]}, to compare`);
    write($(".tag.l", plate), isSame ? "" : other[1]);
    write($(".tag.r", plate), `step ${picture.step}`);
    plate.classList.toggle("older", picture.step !== this.step);
    $(".wipe", plate).dataset.other = isSame ? "" : other[1];
  }

  whenEmpty() {
    if (this.state() === "queued") return "Drawn before the first step, once its turn comes";
    return this.state() === "running" ? "Being drawn" : "Not drawn";
  }

  // What can be wiped against, [value, words]: every step, the base first, then photos.
  choices() {
    const first = this.base === "the base" ? "without the adapter" : this.base; // a fresh adapter changes nothing yet
    const steps = this.samples.steps.map((step) => [`step ${step}`, step ? `step ${step}` : `step 0, ${first}`]);
    return [...steps, ...this.photos.map(({ id, name }) => [`photo ${id}`, name])];
  }

  drawChoices() {
    const wanted = this.choices();
    const key = wanted.map(([value]) => value).join();
    if (this.listed !== key) {
      this.listed = key;
      this.select.replaceChildren(...wanted.map(([value, words]) => new Option(words, value)));
    }
    if (!wanted.some(([value]) => value === this.against)) this.against = wanted[0]?.[0] ?? "step 0";
    this.select.value = this.against;
  }

  // The pictures one step on and one back are there before they are asked for.
  fetchAround() {
    for (const way of [-1, 1]) {
      const step = this.samples.beside(this.step, way);
      for (const { url } of this.samples.drawn.get(step)?.values() ?? []) {
        if (!this.fetched.has(url)) new Image().src = url;
        this.fetched.add(url);
      }
    }
  }
}
