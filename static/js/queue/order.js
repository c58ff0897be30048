// The order of the jobs that wait: by dragging their handle, with a mouse or a finger, and by keys on it. Jobs change places
// within their lane only.

import { $, $$ } from "../lib/dom.js";

const EDGE_PX = 70; // of the window: there the page scrolls under what is dragged
const SCROLL_PX = 12;
const KEYS = { ArrowUp: -1, ArrowDown: 1, Home: -Infinity, End: Infinity };

// The lines that a line can change places with, itself among them.
export const peers = (line, list) => $$(`li[data-state="queued"][data-lane="${line.dataset.lane}"]`, list);

export class Order {
  // `move(line, from, to)` is called for a place that the user has chosen.
  constructor(list, move) {
    this.list = list;
    this.move = move;
    this.drag = null; // {line, from, offset}
    list.addEventListener("pointerdown", (event) => this.begin(event));
    list.addEventListener("pointermove", (event) => this.follow(event));
    for (const kind of ["pointerup", "lostpointercapture"]) list.addEventListener(kind, () => this.end(true));
    list.addEventListener("pointercancel", () => this.end(false));
    list.addEventListener("keydown", (event) => this.onKey(event));
  }

  get dragging() {
    return this.drag !== null;
  }

  begin(event) {
    const grip = event.target.closest("[data-grip]");
    if (!grip || event.button) return;
    event.preventDefault();
    grip.focus();
    this.list.setPointerCapture(event.pointerId); // the line itself would lose it when it is moved in the document
    const line = grip.closest("li");
    this.drag = { line, from: peers(line, this.list).indexOf(line), offset: event.clientY - line.getBoundingClientRect().top };
    line.classList.add("dragged");
  }

  follow(event) {
    if (!this.drag) return;
    const { line, offset } = this.drag;
    if (event.clientY < EDGE_PX) scrollBy(0, -SCROLL_PX);
    if (event.clientY > innerHeight - EDGE_PX) scrollBy(0, SCROLL_PX);
    const place = (one) => { const box = one.getBoundingClientRect(); return box.top + box.height / 2; };
    const others = peers(line, this.list).filter((one) => one !== line);
    const next = others.find((one) => event.clientY < place(one));
    const before = next ?? others.at(-1)?.nextElementSibling ?? null;
    if (others.length && before !== line && line.nextElementSibling !== before) line.parentElement.insertBefore(line, before);
    line.style.translate = "0 0";
    line.style.translate = `0 ${event.clientY - offset - line.getBoundingClientRect().top}px`;
  }

  end(keep) {
    if (!this.drag) return;
    const { line, from } = this.drag;
    this.drag = null;
    line.classList.remove("dragged");
    line.style.translate = "";
    const to = peers(line, this.list).indexOf(line);
    if (keep && to !== from) this.move(line, from, to);
    else this.put(line, from);
  }

  // Show a line at a place among its peers.
  put(line, place) {
    const others = peers(line, this.list).filter((one) => one !== line);
    const before = others[place] ?? others.at(-1)?.nextElementSibling ?? null;
    if (before !== line && line.nextElementSibling !== before) line.parentElement.insertBefore(line, before);
  }

  onKey(event) {
    if (this.drag && event.key === "Escape") {
      this.end(false);
      return;
    }
    const grip = event.target.closest("[data-grip]");
    if (!grip || !(event.key in KEYS) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const line = grip.closest("li");
    const lines = peers(line, this.list);
    const from = lines.indexOf(line);
    const to = Math.max(0, Math.min(from + KEYS[event.key], lines.length - 1));
    if (to === from) return;
    this.put(line, to);
    $("[data-grip]", line).focus();
    this.move(line, from, to);
  }
}
