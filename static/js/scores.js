// How the run does on fixed photos at fixed noise, in percent of the untouched base's loss: all noise together and four
// bands of it; what that means in words; and what each photo costs.

import { $, copy, show, write } from "./dom.js";
import { Plot, cells } from "./plot.js";

const BANDS = ["low", "medium-low", "medium-high", "high"];
const TONES = { memorising: "warn", diverged: "bad" };
const percent = (value) => (value === null || value === undefined ? "–" : `${Math.round(value * 100)}%`);

export class ScoreChart extends Plot {
  constructor(box) {
    super(box);
    this.scores = new Map(); // step -> [all, low ... high], null where it was no number
  }

  // `payload` is that of a metric event; whether it is of held-out photos or of one that is trained on, its names say.
  push(step, payload) {
    const name = "held_out" in payload ? "held_out" : "trained" in payload ? "trained" : null;
    if (!name) return false;
    this.scores.set(step, [payload[name], ...BANDS.map((_, band) => payload[`${name}/${band}`])]);
    this.changed();
    return true;
  }

  rewind(step) {
    for (const known of [...this.scores.keys()]) if (known > step) this.scores.delete(known);
    super.rewind(step);
  }

  // [steps, all, high, medium-high, medium-low, low]: in the order of the keys below the chart.
  collect() {
    const steps = [...this.scores.keys()].sort((a, b) => a - b);
    return [steps, ...[0, 4, 3, 2, 1].map((index) => steps.map((step) => this.scores.get(step)[index] ?? null))];
  }

  series({ ink, accent, good, warn, muted }) {
    const band = (stroke, dash) => ({ stroke, dash, width: 1.5, points: { show: false }, spanGaps: false });
    return [
      { stroke: ink, width: 2.5, points: { size: 5, fill: ink } },
      band(accent, []), band(good, [9, 3]), band(warn, [5, 3]), band(muted, [2, 3]),
    ];
  }

  tick(value) {
    return percent(value);
  }

  span(low, high) {
    const [bottom, top] = [Math.min(low ?? 1, 1), Math.max(high ?? 1, 1)];
    const air = Math.max((top - bottom) * 0.08, 0.02);
    return [Math.max(0, bottom - air), top + air];
  }

  drawMarks(plot, colours) {
    super.drawMarks(plot, colours);
    const { left, width } = plot.bbox;
    const y = plot.valToPos(1, "y", true);
    this.dashed(plot, colours.edge, [left, y], [left + width, y]);
  }

  words(index) {
    const [steps, all, high, , , low] = this.rows();
    return `step ${steps[index]} · ${percent(all[index])} of the base · high noise ${percent(high[index])}, low ${percent(low[index])}`;
  }
}

export function fillScores(body, chart) {
  const [steps, ...columns] = chart.rows();
  body.replaceChildren(...steps.map((step, index) => cells([step, ...columns.map((column) => percent(column[index]))])));
}

// The verdict and the photos, as the run's JSON has them.
export function showVerdict({ verdict, photo_scores: photos }) {
  const box = $("#verdict");
  box.className = `note ${TONES[verdict.kind] ?? ""}`.trim();
  write($("b", box), `${verdict.title}.`);
  write($("#verdict-words"), verdict.words);
  $("#verdict-bands").replaceChildren(...verdict.bands.map((words) => {
    const line = document.createElement("li");
    line.textContent = words;
    return line;
  }));
  $("#photo-scores tbody").replaceChildren(...photos.map((photo) => {
    const row = copy("photo-score-template");
    const [name, words] = row.cells;
    write($("span", name), photo.name);
    show($(".badge", name), photo.outlier);
    write(words, photo.words);
    return row;
  }));
}
