// The photo in the loupe, fitted or at 100%, moved and zoomed: by wheel, by two fingers, by drag, by double-click.
// One CSS transform of the figure; tools that lie on the photo move along.

import { $ } from "../lib/dom.js";

const MOST = 4; // pixels of the screen for one of the photo
const stage = $("#stage");
const canvas = $("#canvas");

class View {
  constructor() {
    this.width = 1;
    this.height = 1;
    this.scale = 1; // 1: fitted
    this.x = 0;
    this.y = 0;
    this.drags = true; // whether one finger or the mouse moves the photo; a tool may want them
    this.wheels = true;
    this.act = () => {};
    this.fingers = new Map();
    new ResizeObserver(() => this.layOut()).observe(stage);
    stage.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    stage.addEventListener("pointerdown", (event) => this.onDown(event));
    stage.addEventListener("pointermove", (event) => this.onMove(event));
    for (const kind of ["pointerup", "pointercancel"]) stage.addEventListener(kind, (event) => this.fingers.delete(event.pointerId));
    stage.addEventListener("dragstart", (event) => event.preventDefault()); // of a selection: it would end a stroke
    stage.addEventListener("dblclick", (event) => this.drags && !event.target.closest("button, .options") && this.toggle(event));
  }

  onScale(act) { this.act = act; }

  load(width, height) {
    [this.width, this.height] = [width, height];
    this.fit();
  }

  // The figure's own size: as large as the stage allows.
  layOut() {
    const style = getComputedStyle(stage);
    const wide = stage.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    const high = stage.clientHeight - parseFloat(style.paddingTop) - parseFloat(style.paddingBottom);
    const fitted = Math.min(wide / this.width, high / this.height, MOST);
    canvas.style.width = `${Math.max(1, this.width * fitted)}px`;
    canvas.style.height = `${Math.max(1, this.height * fitted)}px`;
    this.fitted = Math.max(fitted, 1e-6);
    this.draw();
  }

  get fullScale() { return 1 / devicePixelRatio / this.fitted; }
  get largest() { return Math.max(MOST * this.fullScale, 1); }

  draw() {
    const [wide, high] = [canvas.offsetWidth * this.scale, canvas.offsetHeight * this.scale];
    const room = (own, of) => Math.max(0, (own - of) / 2 + 40);
    this.x = Math.max(-room(wide, stage.clientWidth), Math.min(room(wide, stage.clientWidth), this.x));
    this.y = Math.max(-room(high, stage.clientHeight), Math.min(room(high, stage.clientHeight), this.y));
    if (this.scale === 1) [this.x, this.y] = [0, 0];
    canvas.style.transform = this.scale === 1 ? "" : `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
    canvas.style.setProperty("--zoom", this.scale);
    this.act(this.scale !== 1);
  }

  fit() {
    this.scale = 1;
    this.layOut();
  }

  full(event = null) { this.zoomTo(this.fullScale, event); }

  toggle(event = null) { if (this.scale === 1) this.full(event); else this.fit(); }

  // Zoom so that the point under the pointer stays where it is.
  zoomTo(scale, event = null) {
    const next = Math.max(1, Math.min(this.largest, scale));
    const box = stage.getBoundingClientRect();
    const dx = event ? event.clientX - box.left - box.width / 2 : 0;
    const dy = event ? event.clientY - box.top - box.height / 2 : 0;
    this.x = dx - ((dx - this.x) * next) / this.scale;
    this.y = dy - ((dy - this.y) * next) / this.scale;
    this.scale = next < 1.02 ? 1 : next;
    this.draw();
  }

  onWheel(event) {
    if (event.target.closest(".options") || !this.wheels) return;
    event.preventDefault();
    this.zoomTo(this.scale * Math.exp(-event.deltaY / 300), event);
  }

  onDown(event) {
    if (event.target.closest("button, .options")) return;
    this.fingers.set(event.pointerId, event);
    if (this.drags && event.button === 0) stage.setPointerCapture(event.pointerId);
  }

  onMove(event) {
    const before = this.fingers.get(event.pointerId);
    if (!before) return;
    this.fingers.set(event.pointerId, event);
    const [one, other] = [...this.fingers.values()];
    if (this.fingers.size === 2) {
      const fixed = event.pointerId === one.pointerId ? other : one;
      const apart = (finger) => Math.hypot(finger.clientX - fixed.clientX, finger.clientY - fixed.clientY) || 1;
      this.zoomTo((this.scale * apart(event)) / apart(before), { clientX: (event.clientX + fixed.clientX) / 2, clientY: (event.clientY + fixed.clientY) / 2 });
    } else if (!this.drags || this.scale === 1) return;
    this.x += (event.clientX - before.clientX) / this.fingers.size;
    this.y += (event.clientY - before.clientY) / this.fingers.size;
    this.draw();
  }

  // Where a pointer is on the photo, in fractions.
  point(event) {
    const box = canvas.getBoundingClientRect();
    return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
  }

  get pinching() { return this.fingers.size > 1; }
}

export const view = new View();
