// One curve of several runs over one another. Each has a colour and a pattern of dashes, those of its key in the page.

import { Plot, cells } from "../lib/plot.js";
import { Curve } from "../run/curve.js";

const COLOURS = ["accent", "warn", "good", "bad", "ink", "muted"];
const DASHES = [[], [12, 4], [5, 3], [2, 3], [10, 3, 2, 3], [16, 8]]; // so that colour is not all that tells
const BACK = 400; // places that the tip looks back for a run's last value

export class RunCurves extends Plot {
  // `text(value)` formats a value; `weight` smooths, 0 shows the values as they are, with dots.
  constructor(box, { runs, text, weight = 0, ...more }) {
    super(box, more);
    this.runs = runs;
    this.text = text;
    this.dots = weight === 0;
    this.curves = runs.map(() => new Curve(weight));
  }

  set(place, points) {
    this.curves[place].set(points, []);
    this.changed();
  }

  smooth(weight) {
    for (const curve of this.curves) curve.setWeight(weight);
    this.changed();
  }

  // [steps, smoothed values of each run]; a run has no value at the steps of others.
  collect() {
    const tables = this.curves.map((curve) => { const [steps, , smooth] = curve.rows(); return [steps, smooth]; });
    const filled = tables.filter(([steps]) => steps.length);
    if (!filled.length) return [[], ...this.runs.map(() => [])];
    const [steps, ...columns] = window.uPlot.join(filled);
    let next = 0;
    return [steps, ...tables.map(([own]) => (own.length ? columns[next++] : steps.map(() => null)))];
  }

  series(colours) {
    return this.runs.map(({ label }, place) => ({
      label, stroke: colours[COLOURS[place]], width: 2.25, dash: DASHES[place], spanGaps: true,
      points: this.dots ? { show: true, size: 5, fill: colours[COLOURS[place]] } : { show: false },
    }));
  }

  tick(value) {
    return this.text(value);
  }

  span(low, high) {
    if (low === null || high === null) return [0, 1];
    if (this.log) return [Math.max(low, 1e-9) * 0.9, Math.max(high, 2e-9) * 1.1];
    const air = (high - low || Math.abs(high) || 1) * 0.08;
    return [Math.max(0, low - air), high + air];
  }

  // The last value of a run at or before a place; null without one.
  value(place, index) {
    const column = this.rows()[place + 1];
    for (let at = index; at >= 0 && index - at < BACK; at -= 1) if (Number.isFinite(column[at])) return column[at];
    return null;
  }

  words(index) {
    const values = this.runs.map(({ label }, place) => [label, this.value(place, index)]).filter(([, value]) => value !== null);
    return [`step ${this.rows()[0][index]}`, ...values.map(([label, value]) => `${label} ${this.text(value)}`)].join(" · ");
  }
}

// The curves as a table: at most `limit` rows, evenly spaced, the last one included.
export function fillTable(body, chart, limit = 100) {
  const [steps] = chart.rows();
  const stride = Math.max(1, Math.ceil(steps.length / limit));
  const chosen = steps.map((_, index) => index).filter((index) => index % stride === 0 || index === steps.length - 1);
  const text = (value) => (value === null ? "–" : chart.text(value));
  body.replaceChildren(...chosen.map((index) => cells([steps[index], ...chart.runs.map((_, place) => text(chart.value(place, index)))])));
}
