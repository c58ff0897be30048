// What stands above charts that show the same steps: smoothing, scale and zoom. The first chart has the log scale.

import { $, $$, write } from "../lib/dom.js";

const WAYS = { in: (chart) => chart.zoomBy(0.5), out: (chart) => chart.zoomBy(2), all: (chart) => chart.setZoom(null) };

// What the slider was left at, 0 to 1.
export function smoothingOf() {
  const slider = $("#smoothing");
  slider.value = localStorage.getItem("smoothing") ?? slider.value;
  return slider.value / 100;
}

// `smooth(weight)` is called at once, and when the slider moves.
export function startChartTools(charts, smooth) {
  const slider = $("#smoothing");
  const show = () => { write($("#smoothing-value"), `${slider.value}%`); smooth(slider.value / 100); };
  slider.addEventListener("input", () => { localStorage.setItem("smoothing", slider.value); show(); });
  for (const button of $$("[data-scale]")) {
    button.addEventListener("click", () => {
      for (const other of $$("[data-scale]")) other.setAttribute("aria-pressed", other === button);
      charts[0].setLog(button.dataset.scale === "log");
    });
  }
  for (const button of $$("[data-zoom]")) button.addEventListener("click", () => WAYS[button.dataset.zoom](charts[0]));
  show();
}

// All of them show the same steps.
export function showZoom(charts, zoom) {
  for (const chart of charts) {
    chart.zoom = zoom;
    chart.draw();
  }
  for (const button of $$('[data-zoom="out"], [data-zoom="all"]')) button.disabled = zoom === null;
}
