// The loss chart: each step thin, the smoothed line thick, and the learning rate when asked for.

import { throttled } from "../lib/dom.js";
import { loss } from "../lib/format.js";
import { Plot, cells } from "../lib/plot.js";
import { Curve } from "./curve.js";

const LOOKED_AT = 2000; // values that the range of the axis is taken from: more change nothing that one could see

export class LossChart extends Plot {
  // `onText({step, last, smooth, first, count})` gets the newest numbers, at most twice a second.
  constructor(box, { smoothing, onText, ...more }) {
    super(box, more);
    this.curve = new Curve(smoothing);
    this.showsRate = false;
    this.report = throttled(500, () => onText(this.newest()));
  }

  set(points, rates) {
    this.curve.set(points, rates);
    this.changed();
  }

  push(step, value, rate) {
    this.curve.push(step, value, rate);
    this.changed();
  }

  rewind(step) {
    this.curve.rewind(step);
    super.rewind(step);
  }

  smooth(weight) {
    this.curve.setWeight(weight);
    this.changed();
  }

  showRate(yes) {
    this.showsRate = yes;
    this.restart();
  }

  changed() {
    super.changed();
    this.report();
  }

  collect() {
    const [steps, raw, smooth, rates] = this.curve.rows();
    return this.showsRate ? [steps, raw, smooth, rates] : [steps, raw, smooth];
  }

  newest() {
    const [steps, raw, smooth] = this.rows();
    return { step: steps.at(-1) ?? 0, last: raw.at(-1) ?? null, smooth: smooth.at(-1) ?? null, first: smooth[Math.min(9, smooth.length - 1)] ?? null, count: steps.length };
  }

  series({ accent, edge, warn }) {
    const lines = [
      { label: "loss", stroke: edge, width: 1, alpha: 0.55, points: { show: false } },
      { label: "smoothed", stroke: accent, width: 2.5, points: { show: false } },
    ];
    if (this.showsRate) lines.push({ label: "learning rate", scale: "rate", stroke: warn, width: 1.5, dash: [6, 4], points: { show: false } });
    return lines;
  }

  scales() {
    return { rate: { range: (_, low, high) => [0, (high || 1) * 1.15] } };
  }

  tick(value) {
    return value === null ? "" : String(Number(value.toPrecision(3)));
  }

  // The scale covers the middle 98% of the values in view and their smoothed line, so that outliers do not flatten the rest.
  span(low, high) {
    const [steps, raw, smooth] = this.rows();
    if (!raw.length) return [low ?? 0, high ?? 1];
    const [from, to] = this.zoom ? [this.curve.search(this.zoom[0]), this.curve.search(this.zoom[1] + 1)] : [0, steps.length];
    const stride = Math.max(1, Math.ceil((to - from) / LOOKED_AT));
    const sorted = [];
    let [bottom, top] = [Infinity, -Infinity];
    for (let place = from; place < to; place += stride) {
      sorted.push(raw[place]);
      bottom = Math.min(bottom, smooth[place]);
      top = Math.max(top, smooth[place]);
    }
    if (!sorted.length) return [low ?? 0, high ?? 1];
    sorted.sort((a, b) => a - b);
    const at = (share) => sorted[Math.round(share * (sorted.length - 1))];
    bottom = Math.min(bottom, at(0.01));
    top = Math.max(top, at(0.99));
    if (this.log) return [Math.max(bottom, 1e-9) * 0.9, Math.max(top, 2e-9) * 1.1];
    const air = (top - bottom || Math.abs(top) || 1) * 0.08;
    return [Math.max(0, bottom - air), top + air];
  }

  words(index) {
    const [steps, raw, smooth] = this.rows();
    const mark = this.marks.has(steps[index]) ? ", checkpoint" : "";
    const rate = this.showsRate ? ` · learning rate ${this.curve.rates[index]?.toPrecision(3) ?? "–"}` : "";
    return `step ${steps[index]}${mark} · ${loss(raw[index])} · smoothed ${loss(smooth[index])}${rate}`;
  }
}

// The chart as a table: at most `limit` rows, evenly spaced, the last step included.
export function fillTable(body, chart, limit = 200) {
  const [steps, raw, smooth, rates] = chart.curve.rows();
  const stride = Math.max(1, Math.ceil(steps.length / limit));
  const chosen = steps.map((_, index) => index).filter((index) => index % stride === 0 || index === steps.length - 1);
  body.replaceChildren(...chosen.map((index) => cells([steps[index], loss(raw[index]), loss(smooth[index]), rates[index]?.toPrecision(3) ?? ""])));
}
