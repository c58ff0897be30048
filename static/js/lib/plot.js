// The base of a run's charts: curves over steps, drawn by uPlot on a canvas, with marks at checkpoints and samples. A screen
// reader cannot read a canvas, so each chart is also given as text and as a table.

import { $, paced, show, write } from "./dom.js";

const DRAG_PX = 5; // a press that moves by less is a click
const LEAST_STEPS = 8; // that a zoom shows
const TIP_PICTURES = 4;

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
// range of the y axis; `tick(value)`, a label; `words(index)`, the text of the tip; and may define `scales()`.
//
// `total()` is the last step of the axis. `pictures(step)` gives the addresses of those that the tip shows; `onHover(step)`
// is called while the cursor moves, with null when it leaves; `onPick(step)` for a click; `onZoom(zoom)` for another range.
export class Plot {
  constructor(box, { total, pictures = () => [], onHover = () => {}, onPick = () => {}, onZoom = () => {} }) {
    Object.assign(this, { box, total, pictures, onHover, onPick, onZoom });
    this.tip = $(".chart-tip", box);
    this.tip.replaceChildren(document.createElement("div"), document.createElement("span"));
    this.empty = $(".chart-empty", box);
    this.playhead = $(".chart-playhead", box);
    this.marks = new Set(); // checkpoints
    this.samples = new Set(); // steps with samples
    this.zoom = null; // [first, last] of the steps in view; null: all
    this.log = false;
    this.shown = null; // the step of the large pictures
    this.cached = null;
    this.draw = paced(120, () => this.redraw());
    new ResizeObserver(() => { this.plot?.setSize(this.size()); this.placeHead(); }).observe(box);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.restart());
    new MutationObserver(() => this.restart()).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  }

  mark(checkpoints, samples) {
    this.marks = new Set(checkpoints);
    this.samples = new Set(samples);
    this.draw();
  }

  rewind() {
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
      this.placeHead();
      return;
    }
    const [min, max] = this.zoom ?? [0, Math.max(this.total(), 1)];
    if (this.plot) this.plot.setData(rows, false);
    else this.plot = new window.uPlot(this.options(), rows, this.box);
    this.plot.setScale("x", { min, max }); // draws
  }

  restart() {
    this.plot?.destroy();
    this.plot = null;
    this.cached = null;
    this.draw();
  }

  setLog(yes) {
    this.log = yes;
    this.restart();
  }

  // Show the steps from `first` to `last`; null: all of them.
  setZoom(zoom) {
    const total = this.total();
    const inside = zoom && [Math.max(0, Math.round(zoom[0])), Math.min(total, Math.round(zoom[1]))];
    this.zoom = inside && inside[1] - inside[0] < total ? inside : null;
    if (this.zoom && this.zoom[1] - this.zoom[0] < LEAST_STEPS) this.zoom = null;
    this.onZoom(this.zoom);
    this.draw();
  }

  // Half, or twice, the steps in view, around the step of the large pictures where it is among them.
  zoomBy(factor) {
    const [first, last] = this.zoom ?? [0, this.total()];
    const inView = this.shown !== null && this.shown >= first && this.shown <= last;
    const middle = inView ? this.shown : (first + last) / 2;
    const width = Math.max(LEAST_STEPS, (last - first) * factor);
    const start = Math.max(0, Math.min(middle - width / 2, this.total() - width));
    this.setZoom([start, start + width]);
  }

  // The line at the step of the large pictures.
  head(step) {
    this.shown = step;
    this.placeHead();
  }

  placeHead(plot = this.plot) {
    const scale = plot?.scales.x;
    const inView = scale && this.shown !== null && this.shown >= scale.min && this.shown <= scale.max;
    show(this.playhead, Boolean(inView));
    if (inView) this.playhead.style.left = `${plot.over.offsetLeft + plot.valToPos(this.shown, "x")}px`;
  }

  options() {
    const names = ["accent", "edge", "line", "muted", "good", "warn", "bad", "ink", "paper"];
    const colours = Object.fromEntries(names.map((name) => [name, resolved(`--${name}`)]));
    const font = `12px ${getComputedStyle(document.body).fontFamily}`;
    const grid = { stroke: colours.line, width: 1 };
    const axis = { stroke: colours.muted, font, grid, ticks: { ...grid, size: 4 } };
    const [left, right] = ["--axis-left", "--axis-right"].map((name) => parseFloat(getComputedStyle(this.box).getPropertyValue(name)));
    const moves = (type) => !type.startsWith("mousedown") && !type.startsWith("mouseup") && type !== "dblclick";
    return {
      ...this.size(),
      legend: { show: false },
      padding: [8, right, 0, 0],
      cursor: {
        y: false, points: { size: 7 }, drag: { x: true, y: false, setScale: false, dist: DRAG_PX },
        sync: { key: "run", scales: ["x", null], filters: { pub: moves, sub: moves } },
        bind: { dblclick: () => () => this.setZoom(null) },
      },
      scales: { x: { time: false }, y: { distr: this.log ? 3 : 1, range: (_, low, high) => this.span(low, high) }, ...this.scales?.() },
      axes: [
        { ...axis, space: 60, size: 32 },
        { ...axis, size: left, values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : this.tick(tick))) },
      ],
      series: [{}, ...this.series(colours)],
      hooks: {
        ready: [(plot) => this.watch(plot)],
        draw: [(plot) => { this.drawMarks(plot, colours); this.placeHead(plot); }],
        setCursor: [(plot) => this.showTip(plot)],
        setSelect: [(plot) => this.onSelect(plot)],
      },
    };
  }

  watch({ over }) {
    let from = null;
    over.addEventListener("pointerdown", (event) => { from = event.clientX; });
    over.addEventListener("pointerleave", () => this.onHover(null));
    over.addEventListener("click", (event) => {
      if (from !== null && Math.abs(event.clientX - from) < DRAG_PX) this.onPick(this.plot.posToVal(this.plot.cursor.left, "x"));
    });
  }

  onSelect(plot) {
    const { left, width } = plot.select;
    if (width < DRAG_PX) return;
    plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    this.setZoom([plot.posToVal(left, "x"), plot.posToVal(left + width, "x")]);
  }

  // Along the bottom: a ring where samples were drawn, a filled square on its corner for a checkpoint.
  drawMarks(plot, { accent, good, paper }) {
    const { ctx, bbox, scales } = plot;
    const size = 4 * devicePixelRatio;
    const y = bbox.top + bbox.height;
    const inView = (step) => step >= scales.x.min && step <= scales.x.max;
    ctx.save();
    ctx.setLineDash([]);
    ctx.lineWidth = 1.5 * devicePixelRatio;
    ctx.strokeStyle = accent;
    ctx.fillStyle = paper;
    for (const step of this.samples) {
      if (!inView(step) || this.marks.has(step)) continue;
      ctx.beginPath();
      ctx.arc(plot.valToPos(step, "x", true), y, size, 0, 2 * Math.PI);
      ctx.fill();
      ctx.stroke();
    }
    ctx.fillStyle = good;
    for (const step of this.marks) {
      if (!inView(step)) continue;
      const x = plot.valToPos(step, "x", true);
      ctx.beginPath();
      for (const [dx, dy] of [[0, -1.5], [1.5, 0], [0, 1.5], [-1.5, 0]]) ctx.lineTo(x + dx * size, y + dy * size);
      ctx.fill();
    }
    ctx.restore();
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
    const [pictures, text] = this.tip.children;
    write(text, this.words(idx));
    const step = this.rows()[0][idx];
    if (plot.over.matches(":hover")) this.onHover(step);
    const urls = plot.over.matches(":hover") ? this.pictures(step).slice(0, TIP_PICTURES) : [];
    if (this.urls !== urls.join()) {
      this.urls = urls.join();
      pictures.replaceChildren(...urls.map((url) => Object.assign(new Image(), { src: url, alt: "" })));
    }
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
