// The scores of a run on fixed photos at fixed noise, in percent of the untouched base's loss: over all noise and in four
// bands of it; the diagnosis; and the loss of each photo.

import { $, copy, show, write } from "../lib/dom.js";
import { Plot, cells } from "../lib/plot.js";
import { wording } from "../lib/wording.js";

const BANDS = 4;
const percent = (value) => (value === null || value === undefined ? "–" : `${Math.round(value * 100)}%`);

// The names in a metric event, of all noise and of each band from low to high.
const columnsOf = (name) => [name, ...Array.from({ length: BANDS }, (_, band) => `${name}/${band}`)];

// Of held-out photos, or of one that the run trains on.
export const SCORE_COLUMNS = ["held_out", "trained"].flatMap(columnsOf);

export class ScoreChart extends Plot {
  constructor(box, more) {
    super(box, more);
    this.scores = new Map(); // step -> [all, low ... high]; null: not a number
  }

  // `payload` is that of a metric event. Returns false when it holds no scores.
  push(step, payload) {
    const name = "held_out" in payload ? "held_out" : "trained" in payload ? "trained" : null;
    if (!name) return false;
    this.scores.set(step, columnsOf(name).map((column) => payload[column]));
    this.changed();
    return true;
  }

  rewind(step) {
    for (const known of [...this.scores.keys()]) if (known > step) this.scores.delete(known);
    super.rewind(step);
  }

  // [steps, all, high, medium-high, medium-low, low], in the order of the keys below the chart.
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

// The diagnosis and the photos of a run's JSON.
export function showDiagnosis({ verdict: diagnosis, photo_scores: photos }) {
  const box = $("#diagnosis");
  box.className = `note ${wording.tones[diagnosis.kind]}`.trim();
  write($("b", box), `${diagnosis.title}.`);
  write($("#diagnosis-words"), diagnosis.words);
  $("#diagnosis-bands").replaceChildren(...diagnosis.bands.map((words) => {
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
