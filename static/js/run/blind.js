// Two checkpoints compared blind: their pictures of the same prompt and seed side by side, the sides shuffled; then the count.

import { $, $$, show, write } from "../lib/dom.js";

const KEYS = { ArrowLeft: "left", ArrowRight: "right", ArrowDown: "equal" };

const shuffled = (list) => {
  const found = [...list];
  for (let last = found.length - 1; last > 0; last -= 1) {
    const other = Math.floor(Math.random() * (last + 1));
    [found[last], found[other]] = [found[other], found[last]];
  }
  return found;
};

export class Blind {
  // `grids()` are the contact sheets of the run.
  constructor(run, checkpoints, samples, grids) {
    Object.assign(this, { run, checkpoints, samples, grids, pairs: [], place: 0, counts: null });
    this.dialog = $("#blind");
    $("#compare-blind").addEventListener("click", () => this.open());
    $("#blind-choice").addEventListener("change", () => this.begin());
    this.dialog.addEventListener("click", (event) => {
      const side = event.target.closest("[data-side]")?.dataset.side;
      if (side) this.choose(side);
    });
    this.dialog.addEventListener("keydown", (event) => {
      if (!KEYS[event.key] || event.target.closest("select") || this.place >= this.pairs.length) return;
      event.preventDefault();
      this.choose(KEYS[event.key]);
    });
  }

  open() {
    const { steps, starred, best } = this.checkpoints;
    const one = starred ?? best ?? steps.at(-1);
    const others = steps.filter((step) => step !== one);
    for (const [select, value] of [[$("#blind-one"), one], [$("#blind-other"), best !== null && best !== one ? best : others.at(-1)]]) {
      select.replaceChildren(...steps.map((step) => new Option(step, step)));
      select.value = value;
    }
    this.begin();
    this.dialog.showModal();
    $("#blind-acts button").focus();
  }

  get both() {
    return [Number($("#blind-one").value), Number($("#blind-other").value)];
  }

  begin() {
    const [one, other] = this.both;
    this.pairs = one === other ? [] : shuffled(this.pairsOf(one, other)).map((pair) => ({ ...pair, sides: shuffled(pair.sides) }));
    this.place = 0;
    this.counts = new Map([[one, 0], [other, 0], ["equal", 0]]);
    this.draw();
  }

  // [{prompt, sides: [{step, url}, {step, url}]}], the sides of the same prompt, seed and strength.
  pairsOf(one, other) {
    const found = [];
    const sides = (first, second) => [{ step: one, url: first.url }, { step: other, url: second.url }];
    for (const { id, text } of this.samples.prompts) {
      const [first, second] = [one, other].map((step) => this.samples.drawn.get(step)?.get(id));
      if (first && second && first.seed === second.seed) found.push({ prompt: text, sides: sides(first, second) });
    }
    for (const { pictures } of this.grids()) {
      const drawn = pictures.filter(({ url, strength }) => url && strength);
      for (const first of drawn.filter(({ checkpoint }) => checkpoint === one)) {
        const same = (each) => ["prompt", "seed", "strength"].every((name) => each[name] === first[name]);
        const second = drawn.find((each) => each.checkpoint === other && same(each));
        if (second) found.push({ prompt: `${first.prompt}, strength ${first.strength}`, sides: sides(first, second) });
      }
    }
    return found;
  }

  choose(side) {
    const pair = this.pairs[this.place];
    if (!pair) return;
    const chosen = side === "equal" ? "equal" : pair.sides[side === "left" ? 0 : 1].step;
    this.counts.set(chosen, this.counts.get(chosen) + 1);
    this.place += 1;
    this.draw();
  }

  draw() {
    const pair = this.pairs[this.place];
    const done = !pair && this.pairs.length > 0;
    for (const part of ["#blind-pair", "#blind-prompt", "#blind-acts"]) show($(part), Boolean(pair));
    show($("#blind-result"), done);
    if (done) {
      this.reveal();
      return;
    }
    write($("#blind-words"), pair ? `Pair ${this.place + 1} of ${this.pairs.length}. Which is better?` : this.whyNone());
    if (!pair) return;
    write($("#blind-prompt"), pair.prompt);
    $$("#blind-pair img").forEach((image, side) => { image.src = pair.sides[side].url; });
  }

  whyNone() {
    const [one, other] = this.both;
    return one === other ? "Choose two different checkpoints." : "There are no pictures of the same prompt and seed of both. Draw a contact sheet with both first.";
  }

  reveal() {
    const [one, other] = this.both;
    const of = (step) => this.counts.get(step);
    const [winner, loser] = of(other) > of(one) ? [other, one] : [one, other];
    const total = this.pairs.length;
    const even = of(winner) === of(loser);
    write($("#blind-words"), "");
    write($("#blind-result .say"), even ? `No difference: each in ${of(winner)} of ${total}.` : `You chose step ${winner} in ${of(winner)} of ${total}.`);
    const lines = [...(even ? [] : [`Step ${loser} in ${of(loser)}.`]), ...(of("equal") ? [`Equal in ${of("equal")}.`] : [])];
    $("#blind-result ul").replaceChildren(...lines.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
    const acts = [this.button("Again", () => this.begin())];
    if (!even && this.checkpoints.starred !== winner) {
      acts.unshift(this.button(`Star step ${winner}`, async (button) => { await this.checkpoints.star(winner, true); button.remove(); }));
    }
    $("#blind-result .row").replaceChildren(...acts);
    acts[0].focus();
  }

  button(text, run) {
    const made = Object.assign(document.createElement("button"), { type: "button", className: "button", textContent: text });
    made.addEventListener("click", () => run(made));
    return made;
  }
}
