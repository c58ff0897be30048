// The loss chart: each step thin, the smoothed line thick, checkpoints as dashed marks. Drawn by uPlot on a canvas, so
// its words are told again as text below it and, on request, as a table.

import { $, loss, throttled, write } from "./dom.js";

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// light-dark(a, b) is only resolved where it is used: ask an element that uses it.
function resolved(name) {
  const probe = document.createElement("span");
  probe.hidden = true;
  document.body.append(probe);
  probe.style.color = `var(${name})`;
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found || colour(name);
}

// Exponential mean without the pull of its start: m = (1 - w) sum w^i x_(n-i) / (1 - w^n).
export function smoothed(values, weight) {
  let mean = 0;
  let mass = 0;
  return values.map((value) => {
    mean = weight * mean + (1 - weight) * value;
    mass = weight * mass + (1 - weight);
    return mean / mass;
  });
}

export class LossChart {
  // `onText({step, last, smooth})` is told the newest numbers, at most twice a second.
  constructor(box, { smoothing, onText }) {
    this.box = box;
    this.tip = $(".chart-tip", box);
    this.empty = $(".chart-empty", box);
    this.weight = smoothing;
    this.points = new Map(); // step -> loss
    this.marks = new Set();
    this.kept = null;
    this.onText = onText;
    this.draw = throttled(120, () => this.redraw());
    this.tell = throttled(500, () => this.onText(this.newest()));
    new ResizeObserver(() => this.plot?.setSize(this.size())).observe(box);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.restart());
    new MutationObserver(() => this.restart()).observe(document.documentElement, { attributeFilter: ["data-theme"] });
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

  mark(step) {
    this.marks.add(step);
    this.changed();
  }

  rewind(step) {
    for (const known of [...this.points.keys()]) if (known > step) this.points.delete(known);
    for (const known of [...this.marks]) if (known > step) this.marks.delete(known);
    this.changed();
  }

  smooth(weight) {
    this.weight = weight;
    this.changed();
  }

  changed() {
    this.kept = null;
    this.draw();
    this.tell();
  }

  // [steps, losses, smoothed losses]: worked out once for each change.
  rows() {
    if (this.kept) return this.kept;
    const steps = [...this.points.keys()].sort((a, b) => a - b);
    const raw = steps.map((step) => this.points.get(step));
    this.kept = [steps, raw, smoothed(raw, this.weight)];
    return this.kept;
  }

  newest() {
    const [steps, raw, smooth] = this.rows();
    return { step: steps.at(-1) ?? 0, last: raw.at(-1) ?? null, smooth: smooth.at(-1) ?? null, first: smooth[Math.min(9, smooth.length - 1)] ?? null, count: steps.length };
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
    const [accent, edge, line, muted, good] = ["--accent", "--edge", "--line", "--muted", "--good"].map(resolved);
    const font = `12px ${getComputedStyle(document.body).fontFamily}`;
    const axis = { stroke: muted, font, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1, size: 4 } };
    return {
      ...this.size(),
      legend: { show: false },
      padding: [8, 12, 0, 0],
      cursor: { y: false, drag: { x: true, y: false }, points: { size: 7 } },
      scales: { x: { time: false }, y: { range: (_, low, high) => this.span(low, high) } },
      axes: [
        { ...axis, space: 60, size: 32 },
        { ...axis, size: 56, values: (_, ticks) => ticks.map((tick) => String(Number(tick.toPrecision(3)))) },
      ],
      series: [
        {},
        { label: "loss", stroke: edge, width: 1, alpha: 0.55, points: { show: false } },
        { label: "smoothed", stroke: accent, width: 2.5, points: { show: false } },
      ],
      hooks: { drawAxes: [(plot) => this.drawMarks(plot, good)], setCursor: [(plot) => this.showTip(plot)] },
    };
  }

  // A few wild steps must not flatten the rest: the scale covers the middle 98 of 100 values and all of the smooth line.
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

  drawMarks(plot, good) {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.strokeStyle = good;
    ctx.lineWidth = 1.5 * devicePixelRatio;
    ctx.setLineDash([4 * devicePixelRatio, 4 * devicePixelRatio]);
    for (const step of this.marks) {
      if (step < plot.scales.x.min || step > plot.scales.x.max) continue;
      const x = plot.valToPos(step, "x", true);
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
    }
    ctx.restore();
  }

  showTip(plot) {
    const { idx, left } = plot.cursor;
    this.tip.hidden = idx === null || idx === undefined || left < 0;
    if (this.tip.hidden) return;
    const [steps, raw, smooth] = plot.data;
    const mark = this.marks.has(steps[idx]) ? ", checkpoint" : "";
    write(this.tip, `step ${steps[idx]}${mark} · ${loss(raw[idx])} · smoothed ${loss(smooth[idx])}`);
    const room = this.box.clientWidth - this.tip.offsetWidth - 8;
    const x = Math.max(8, Math.min(room, plot.over.offsetLeft + left + 12));
    this.tip.style.transform = `translate(${x}px, 8px)`;
  }
}

// The same as a table: at most `limit` rows, evenly chosen, the last one always among them.
export function fillTable(body, chart, limit = 200) {
  const [steps, raw, smooth] = chart.rows();
  const stride = Math.max(1, Math.ceil(steps.length / limit));
  const chosen = steps.map((_, index) => index).filter((index) => index % stride === 0 || index === steps.length - 1);
  body.replaceChildren(...chosen.map((index) => {
    const row = document.createElement("tr");
    for (const [text, kind] of [[steps[index], ""], [loss(raw[index]), "number"], [loss(smooth[index]), "number"]]) {
      const cell = document.createElement("td");
      cell.className = kind;
      cell.textContent = text;
      row.append(cell);
    }
    return row;
  }));
}
