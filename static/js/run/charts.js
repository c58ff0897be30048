// The two charts of a run and the buttons above them: scale, learning rate, zoom, smoothing, tables.

import { $, write } from "../lib/dom.js";
import { loss } from "../lib/format.js";
import { showZoom, smoothingOf, startChartTools } from "./chart_tools.js";
import { LossChart, fillTable } from "./loss_chart.js";
import { ScoreChart, fillScores } from "./score_chart.js";

export class Charts {
  // `total()` is the last step, `pictures(step)` what is shown beside the cursor; `onHover`, `onPick` as of Plot; `onLoss`
  // gets the smoothed loss as text.
  constructor({ onLoss, ...tied }) {
    const both = { ...tied, onZoom: (zoom) => showZoom(this.all, zoom) };
    this.loss = new LossChart($("#chart"), { ...both, smoothing: smoothingOf(), onText: (newest) => this.tell(newest, onLoss) });
    this.scores = new ScoreChart($("#score-chart"), both);
    this.all = [this.loss, this.scores];
    startChartTools(this.all, (weight) => this.loss.smooth(weight));
    this.listen();
  }

  listen() {
    const rate = $("#show-lr");
    rate.addEventListener("click", () => {
      const yes = rate.getAttribute("aria-pressed") !== "true";
      rate.setAttribute("aria-pressed", yes);
      $("#lr-key").hidden = !yes;
      this.loss.showRate(yes);
    });
    $("#chart-table").addEventListener("toggle", () => this.fillTables());
    $("#score-table").addEventListener("toggle", () => this.fillTables());
  }

  fillTables() {
    if ($("#chart-table").open) fillTable($("#chart-table tbody"), this.loss);
    if ($("#score-table").open) fillScores($("#score-table tbody"), this.scores);
  }

  tell({ step, last, smooth, first, count }, onLoss) {
    onLoss(smooth === null ? "" : loss(smooth));
    if (!count) return;
    const change = first ? Math.round((1 - smooth / first) * 100) : 0;
    const way = Math.abs(change) < 2 ? "about where it began" : change > 0 ? `${change}% below where it began` : `${-change}% above where it began`;
    write($("#chart-summary"), `Step ${step}: loss ${loss(last)}, smoothed ${loss(smooth)}, ${way}. Single steps are noisy; look at the smoothed line, and trust the pictures more.`);
    if ($("#chart-table").open) fillTable($("#chart-table tbody"), this.loss);
  }

  mark(checkpoints, samples) {
    for (const chart of this.all) chart.mark(checkpoints, samples);
  }

  head(step) {
    for (const chart of this.all) chart.head(step);
  }

  rewind(step) {
    for (const chart of this.all) chart.rewind(step);
  }
}
