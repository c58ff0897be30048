// The log of a run: the newest lines, at the end where the reader is at the end.

import { $, write } from "../lib/dom.js";

const LINES = 2000;
const CLOSE_PX = 30; // from the end

export class Log {
  constructor(lines) {
    this.box = $("#log");
    for (const { at, level, text } of lines) this.add(at, { level, text });
    $("#log-fold").addEventListener("toggle", () => this.toEnd());
  }

  add(at, { level, text }) {
    const { box } = this;
    const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < CLOSE_PX;
    const time = new Date(at);
    const line = document.createElement("span");
    line.dataset.level = level;
    line.textContent = `${Number.isNaN(time.getTime()) ? "" : time.toTimeString().slice(0, 8)}  ${text}\n`;
    box.append(line);
    while (box.childElementCount > LINES) box.firstElementChild.remove();
    write($("#log-last"), text);
    if (atEnd) this.toEnd();
  }

  toEnd() {
    this.box.scrollTop = this.box.scrollHeight;
  }
}
