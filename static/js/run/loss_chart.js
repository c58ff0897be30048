// The loss chart: each step thin, the smoothed line thick, checkpoints as dashed marks.

import { throttled } from "../lib/dom.js";
import { loss } from "../lib/format.js";
import { Plot, cells } from "../lib/plot.js";

// Exponential moving average with bias correction: m = (1 - w) sum w^i x_(n-i) / (1 - w^n).
export function smoothed(values, weight) {
  let mean = 0;
  let mass = 0;
  return values.map((value) => {
    mean = weight * mean + (1 - weight) * value;
    mass = weight * mass + (1 - weight);
    return mean / mass;
  });
}

export class LossChart extends Plot {
  // `onText({step, last, smooth, first, count})` gets the newest numbers, at most twice a second.
  constructor(box, { smoothing, onText }) {
    super(box);
    this.weight = smoothing;
    this.points = new Map(); // step -> loss
    this.onText = onText;
    this.report = throttled(500, () => this.onText(this.newest()));
  }

  set(points) {
    for (const [step, value] of points) if (value !== null) this.points.set(step, value);
    this.changed();
  }

  push(step, value) {
    if (value === null || value === undefined) return;
    this.points.set(step, value);
    this.changed();
  }

  rewind(step) {
    for (const known of [...this.points.keys()]) if (known > step) this.points.delete(known);
    super.rewind(step);
  }

  smooth(weight) {
    this.weight = weight;
    this.changed();
  }

  changed() {
    super.changed();
    this.report();
  }

  // [steps, losses, smoothed losses]
  collect() {
    const steps = [...this.points.keys()].sort((a, b) => a - b);
    const raw = steps.map((step) => this.points.get(step));
    return [steps, raw, smoothed(raw, this.weight)];
  }

  newest() {
    const [steps, raw, smooth] = this.rows();
    return { step: steps.at(-1) ?? 0, last: raw.at(-1) ?? null, smooth: smooth.at(-1) ?? null, first: smooth[Math.min(9, smooth.length - 1)] ?? null, count: steps.length };
  }

  series({ accent, edge }) {
    return [
      { label: "loss", stroke: edge, width: 1, alpha: 0.55, points: { show: false } },
      { label: "smoothed", stroke: accent, width: 2.5, points: { show: false } },
    ];
  }

  tick(value) {
    return String(Number(value.toPrecision(3)));
  }

  // The scale covers the middle 98% of the values and the whole smoothed line, so that outliers do not flatten the rest.
  span(low, high) {
    const [, raw, smooth] = this.rows();
    if (!raw.length) return [low ?? 0, high ?? 1];
    const sorted = [...raw].sort((a, b) => a - b);
    const at = (share) => sorted[Math.round(share * (sorted.length - 1))];
    const bottom = Math.min(at(0.01), ...smooth);
    const top = Math.max(at(0.99), ...smooth);
    const air = (top - bottom || Math.abs(top) || 1) * 0.08;
    return [Math.max(0, bottom - air), top + air];
  }

  words(index) {
    const [steps, raw, smooth] = this.rows();
    const mark = this.marks.has(steps[index]) ? ", checkpoint" : "";
    return `step ${steps[index]}${mark} · ${loss(raw[index])} · smoothed ${loss(smooth[index])}`;
  }
}

// The chart as a table: at most `limit` rows, evenly spaced, the last step included.
export function fillTable(body, chart, limit = 200) {
  const [steps, raw, smooth] = chart.rows();
  const stride = Math.max(1, Math.ceil(steps.length / limit));
  const chosen = steps.map((_, index) => index).filter((index) => index % stride === 0 || index === steps.length - 1);
  body.replaceChildren(...chosen.map((index) => cells([steps[index], loss(raw[index]), loss(smooth[index])])));
}
