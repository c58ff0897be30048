// The pictures of a grid as a table: the first axis as rows, the others as columns. Cells fill in as pictures come.

import { $, $$, icon, write } from "../lib/dom.js";
import { wording } from "../lib/wording.js";

const NAMES = {
  checkpoint: (step) => `Step ${step}`,
  adapter: (id) => `Adapter ${id}`,
  strength: (value) => `strength ${value}`,
  prompt: (text) => text,
  seed: (value) => `seed ${value}`,
};

const element = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};

export class SheetTable {
  constructor(table) {
    this.table = table;
    this.shown = null; // the id of the grid
  }

  // `starred` is the step with the star.
  draw(grid, starred) {
    if (this.shown !== grid.id) this.build(grid);
    for (const picture of grid.pictures) this.drawCell(grid, picture, picture.checkpoint !== null && picture.checkpoint === starred);
  }

  build(grid) {
    this.shown = grid.id;
    const [rows, ...columns] = this.axesOf(grid);
    const count = columns.reduce((total, [, values]) => total * values.length, 1);
    this.columns = count;
    this.table.style.setProperty("--columns", count);
    const head = element("thead");
    columns.forEach(([axis, values], depth) => {
      const below = columns.slice(depth + 1).reduce((total, [, each]) => total * each.length, 1);
      const line = element("tr", {}, element("td"));
      for (let number = 0; number < count / below; number += 1) {
        const text = NAMES[axis](values[number % values.length]);
        line.append(element("th", { scope: below > 1 ? "colgroup" : "col", colSpan: below, title: text }, element("span", { textContent: text })));
      }
      head.append(line);
    });
    const body = element("tbody");
    rows[1].forEach((value, row) => {
      const line = element("tr", {}, rows[0] ? element("th", { scope: "row", textContent: NAMES[rows[0]](value) }) : element("td"));
      for (let number = 0; number < count; number += 1) line.append(element("td", {}, this.empty(row * count + number)));
      body.append(line);
    });
    this.table.replaceChildren(head, body);
  }

  // [axis, values], the rows first; a single axis makes one row.
  axesOf(grid) {
    const axes = Object.entries(grid.axes);
    return axes.length === 1 ? [["", [""]], ...axes] : axes;
  }

  empty(number) {
    const cell = element("span", { className: "cell coming" });
    cell.dataset.number = number;
    return cell;
  }

  drawCell(grid, picture, starred) {
    const known = $(`[data-number="${picture.number}"]`, this.table);
    const state = `${picture.url ?? ""} ${picture.problem} ${starred}`;
    if (!known || known.dataset.state === state) return;
    const cell = picture.url ? this.pictureCell(grid, picture, starred) : element("span", { className: picture.problem ? "cell failed" : "cell coming", textContent: picture.problem });
    cell.dataset.number = picture.number;
    cell.dataset.state = state;
    const focused = document.activeElement === known;
    known.replaceWith(cell);
    if (focused) cell.focus();
  }

  pictureCell(grid, picture, starred) {
    const label = this.label(grid, picture);
    const image = element("img", { src: picture.url, alt: label, width: picture.width, height: picture.height, loading: "lazy" });
    const cell = element("button", { type: "button", className: starred ? "cell starred" : "cell", title: label }, image);
    if (starred) cell.append(element("span", { className: "star" }, icon("star")));
    cell.dataset.checkpoint = picture.checkpoint ?? "";
    return cell;
  }

  label(grid, picture) {
    const of = (axis) => NAMES[axis](picture[axis]);
    const parts = Object.keys(grid.axes).map(of);
    if (!grid.axes.prompt) parts.push(picture.prompt);
    if (!grid.axes.seed) parts.push(of("seed"));
    return parts.join(", ");
  }

  // The next drawn picture to one side; null at the edge.
  neighbour(cell, way) {
    const columns = this.columns;
    const by = { left: -1, right: 1, up: -columns, down: columns }[way];
    const row = (number) => Math.floor(number / columns);
    const begin = Number(cell.dataset.number);
    const last = $$("[data-number]", this.table).length;
    for (let number = begin + by; number >= 0 && number < last; number += by) {
      if (Math.abs(by) === 1 && row(number) !== row(begin)) return null;
      const found = $(`button[data-number="${number}"]`, this.table);
      if (found) return found;
    }
    return null;
  }

  clear() {
    this.shown = null;
    this.table.replaceChildren();
  }
}

// How far a grid is, in a sentence.
export function progressOf(grid) {
  const drawn = grid.pictures.filter(({ url }) => url).length;
  const failed = grid.pictures.filter(({ problem }) => problem).length;
  const of = `${drawn} of ${grid.pictures.length} pictures`;
  const lost = failed ? `, ${failed} could not be drawn` : "";
  return {
    queued: `${wording.queued}; ${of} are there.`,
    running: drawn || grid.phase === "drawing" ? `Drawing, ${of}${lost}.` : `${grid.phase || "starting"} …`,
    succeeded: `${drawn} pictures${lost}.`,
    stopped: `Stopped at ${of}${lost}.`,
    failed: `${grid.error?.message ?? "It failed."} ${of} are there.`,
    cancelled: "Removed from the queue.",
  }[grid.state];
}

export function writeProgress(line, grid) {
  const text = progressOf(grid);
  write(line, text[0].toUpperCase() + text.slice(1));
}
