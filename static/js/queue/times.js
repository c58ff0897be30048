// "done by 14:20" for each job: durations from the studio, shown as the time of day here. They are counted down by the
// browser's monotonic clock, so a clock that is set while the page is open moves only what the hour is called.

import { $$, write } from "../lib/dom.js";

const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;

// A time of day, rounded up to the minute; with the day where it is not today's.
export function clockTime(at, now = Date.now()) {
  const time = new Date(Math.ceil(at / MINUTE_MS) * MINUTE_MS);
  const hour = time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  if (time.toDateString() === new Date(now).toDateString()) return hour;
  const day = time - now < 6 * DAY_MS ? { weekday: "short" } : { day: "numeric", month: "short" };
  return `${time.toLocaleDateString([], day)} ${hour}`;
}

export class Times {
  constructor(box) {
    this.box = box;
    this.received(); // the page has just been rendered
  }

  // The durations in the page are as of now.
  received() {
    this.since = performance.now();
    this.draw();
  }

  update(forecasts) {
    const by = new Map(forecasts.map((one) => [String(one.job_id), one.done_in]));
    for (const line of $$(".done-by", this.box)) {
      const seconds = by.get(line.closest("[data-job]").dataset.job) ?? null;
      if (seconds === null) delete line.dataset.doneIn;
      else line.dataset.doneIn = seconds;
    }
    this.received();
  }

  draw() {
    const passed = performance.now() - this.since;
    for (const line of $$(".done-by", this.box)) {
      const { doneIn } = line.dataset;
      write(line, doneIn === undefined ? "" : `done by ${clockTime(Date.now() + Math.max(0, doneIn * 1000 - passed))}`);
    }
  }
}
