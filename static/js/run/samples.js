// The grid of samples: a row for each step, a column for each prompt. Rows to come are there already, empty, so that
// nothing jumps when a picture arrives. A cell is found by (step, prompt_id), so edited prompts cannot mix them up.

import { $, $$ } from "../lib/dom.js";
import { openLightbox } from "../lib/lightbox.js";

export class SampleGrid {
  constructor(box) {
    this.box = box;
    this.body = $("tbody", box);
    box.addEventListener("click", (event) => {
      const button = event.target.closest("[data-sample]");
      if (button) openLightbox(button, (from, way) => this.neighbour(from, way));
    });
    this.showNewest();
  }

  columns() {
    return $$("thead [data-prompt]", this.box).map((cell) => cell.dataset.prompt);
  }

  row(step) {
    const rows = $$("tr", this.body);
    const known = rows.find((row) => Number(row.dataset.step) === step);
    if (known) return known;
    const row = document.createElement("tr");
    row.dataset.step = step;
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = step;
    row.append(head, ...this.columns().map((prompt) => this.cell(prompt)));
    const later = rows.find((one) => Number(one.dataset.step) > step);
    this.body.insertBefore(row, later ?? null);
    return row;
  }

  cell(prompt) {
    const cell = document.createElement("td");
    cell.dataset.prompt = prompt;
    const empty = document.createElement("div");
    empty.className = "waiting";
    cell.append(empty);
    return cell;
  }

  column(sample) {
    if (this.columns().includes(String(sample.prompt_id))) return;
    const head = document.createElement("th");
    head.scope = "col";
    head.dataset.prompt = sample.prompt_id;
    head.textContent = sample.prompt;
    $("thead tr", this.box).append(head);
    for (const row of $$("tr", this.body)) row.append(this.cell(String(sample.prompt_id)));
  }

  add(step, sample) {
    this.column(sample);
    const cell = $(`td[data-prompt="${sample.prompt_id}"]`, this.row(step));
    if ($("img", cell)?.getAttribute("src") === sample.url) return;
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.sample = "";
    const image = new Image();
    image.alt = `Step ${step}: ${sample.prompt}`;
    image.src = sample.url;
    button.append(image);
    const follow = this.atEnd();
    cell.replaceChildren(button);
    if (follow) this.showNewest();
  }

  // Samples after this step are void: the run resumed from it.
  rewind(step) {
    for (const row of $$("tr", this.body)) {
      if (Number(row.dataset.step) <= step) continue;
      for (const cell of $$("td", row)) cell.replaceWith(this.cell(cell.dataset.prompt));
    }
  }

  // Whether the newest row is in view, or the user has not scrolled yet.
  atEnd() {
    return this.lastTop === undefined || Math.abs(this.box.scrollTop - this.lastTop) < 40;
  }

  showNewest() {
    const last = $$("tr", this.body).filter((row) => $("img", row)).at(-1);
    if (last) this.box.scrollTop = Math.max(0, last.offsetTop + last.offsetHeight - this.box.clientHeight);
    this.lastTop = this.box.scrollTop;
  }

  neighbour(button, way) {
    const cell = button.closest("td");
    const row = cell.parentElement;
    if (way === "left" || way === "right") {
      let next = cell;
      while ((next = way === "left" ? next.previousElementSibling : next.nextElementSibling)) {
        const found = $("[data-sample]", next);
        if (found) return found;
      }
      return null;
    }
    let next = row;
    while ((next = way === "up" ? next.previousElementSibling : next.nextElementSibling)) {
      const found = $(`td[data-prompt="${cell.dataset.prompt}"] [data-sample]`, next);
      if (found) return found;
    }
    return null;
  }
}
