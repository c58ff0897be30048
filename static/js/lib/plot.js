// The base of a run's charts: curves over steps, drawn by uPlot on a canvas, with dashed marks at checkpoints. A screen
// reader cannot read a canvas, so each chart is also given as text and as a table.

import { $, throttled, write } from "./dom.js";

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// light-dark(a, b) is resolved only on an element that uses it.
function resolved(name) {
  const probe = document.createElement("span");
  probe.hidden = true;
  document.body.append(probe);
  probe.style.color = `var(${name})`;
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found || colour(name);
}

// A subclass defines `collect()`, which returns [steps, values, values ...]; `series(colours)`; `span(low, high)`, the
// range of the y axis; `tick(value)`, a label; `words(index)`, the text of the tip.
export class Plot {
  constructor(box) {
    this.box = box;
    this.tip = $(".chart-tip", box);
    this.empty = $(".chart-empty", box);
    this.marks = new Set();
    this.cached = null;
    this.draw = throttled(120, () => this.redraw());
    new ResizeObserver(() => this.plot?.setSize(this.size())).observe(box);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.restart());
    new MutationObserver(() => this.restart()).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  }

  mark(step) {
    this.marks.add(step);
    this.changed();
  }

  rewind(step) {
    for (const known of [...this.marks]) if (known > step) this.marks.delete(known);
    this.changed();
  }

  changed() {
    this.cached = null;
    this.draw();
  }

  // Computed once for each change.
  rows() {
    this.cached ??= this.collect();
    return this.cached;
  }

  size() {
    return { width: this.box.clientWidth, height: this.box.clientHeight };
  }

  redraw() {
    const rows = this.rows();
    this.empty.hidden = rows[0].length > 0;
    if (!rows[0].length) {
      this.plot?.destroy();
      this.plot = null;
      return;
    }
    if (this.plot) this.plot.setData(rows);
    else this.plot = new window.uPlot(this.options(), rows, this.box);
  }

  restart() {
    this.plot?.destroy();
    this.plot = null;
    this.draw();
  }

  options() {
    const names = ["accent", "edge", "line", "muted", "good", "warn", "ink"];
    const colours = Object.fromEntries(names.map((name) => [name, resolved(`--${name}`)]));
    const font = `12px ${getComputedStyle(document.body).fontFamily}`;
    const grid = { stroke: colours.line, width: 1 };
    const axis = { stroke: colours.muted, font, grid, ticks: { ...grid, size: 4 } };
    return {
      ...this.size(),
      legend: { show: false },
      padding: [8, 12, 0, 0],
      cursor: { y: false, drag: { x: true, y: false }, points: { size: 7 } },
      scales: { x: { time: false }, y: { range: (_, low, high) => this.span(low, high) } },
      axes: [
        { ...axis, space: 60, size: 32 },
        { ...axis, size: 56, values: (_, ticks) => ticks.map((tick) => this.tick(tick)) },
      ],
      series: [{}, ...this.series(colours)],
      hooks: { drawAxes: [(plot) => this.drawMarks(plot, colours)], setCursor: [(plot) => this.showTip(plot)] },
    };
  }

  drawMarks(plot, { good }) {
    for (const step of this.marks) {
      if (step < plot.scales.x.min || step > plot.scales.x.max) continue;
      const x = plot.valToPos(step, "x", true);
      this.dashed(plot, good, [x, plot.bbox.top], [x, plot.bbox.top + plot.bbox.height]);
    }
  }

  dashed({ ctx }, stroke, from, to) {
    ctx.save();
    ctx.strokeStyle = stroke;
    ctx.lineWidth = 1.5 * devicePixelRatio;
    ctx.setLineDash([4 * devicePixelRatio, 4 * devicePixelRatio]);
    ctx.beginPath();
    ctx.moveTo(...from);
    ctx.lineTo(...to);
    ctx.stroke();
    ctx.restore();
  }

  showTip(plot) {
    const { idx, left } = plot.cursor;
    this.tip.hidden = idx === null || idx === undefined || left < 0;
    if (this.tip.hidden) return;
    write(this.tip, this.words(idx));
    const room = this.box.clientWidth - this.tip.offsetWidth - 8;
    const x = Math.max(8, Math.min(room, plot.over.offsetLeft + left + 12));
    this.tip.style.transform = `translate(${x}px, 8px)`;
  }
}

// A row of a chart's table: the step, then numbers.
export function cells(texts) {
  const row = document.createElement("tr");
  texts.forEach((text, index) => {
    const cell = document.createElement("td");
    if (index) cell.className = "number";
    cell.textContent = text;
    row.append(cell);
  });
  return row;
}
