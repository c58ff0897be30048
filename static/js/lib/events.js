// One stream of server-sent events a page: in order, none lost and none twice.
//
// It starts after the newest event that the page was rendered with, closes while the page is hidden, and continues after
// the last event received. So a hidden tab, a laptop that slept and a studio that was restarted all catch up.

import { api } from "./api.js";
import { show, throttled, write } from "./dom.js";

const KINDS = ["state", "phase", "metric", "sample", "class_picture", "checkpoint", "rewind", "log", "edit"];
const PATIENCE_MS = 3000; // a shorter interruption is not reported

// The number beside "Queue" in the navigation.
const countJobs = throttled(400, async () => {
  const jobs = await api("GET", "/jobs?state=queued&state=running").catch(() => null);
  if (!jobs) return;
  show(document.getElementById("active-jobs"), jobs.length > 0);
  write(document.getElementById("active-jobs-count"), jobs.length);
});

export class Events {
  // `filter` is {run}, {job} or {project}; `on` has handlers by event kind, and may have `link(up)` and `any`.
  constructor(filter, after, on) {
    this.filter = filter;
    this.last = Number(after) || 0;
    this.on = on;
    this.source = null;
    this.retry = null;
    document.addEventListener("visibilitychange", () => (document.hidden ? this.close() : this.open()));
    addEventListener("pagehide", () => this.close());
    addEventListener("pageshow", (event) => event.persisted && this.open());
    if (!document.hidden) this.open();
  }

  open() {
    if (this.source) return;
    clearTimeout(this.retry);
    const query = new URLSearchParams({ ...this.filter, after: this.last });
    const source = new EventSource(`/api/events?${query}`);
    this.source = source;
    for (const kind of KINDS) source.addEventListener(kind, (event) => this.handle(kind, event));
    source.onopen = () => this.link(true);
    source.onerror = () => {
      this.link(false);
      if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
      this.close();
      this.retry = setTimeout(() => document.hidden || this.open(), 2000);
    };
  }

  close() {
    clearTimeout(this.retry);
    this.source?.close();
    this.source = null;
  }

  handle(kind, event) {
    const id = Number(event.lastEventId);
    if (id) {
      if (id <= this.last) return;
      this.last = id;
    }
    const row = JSON.parse(event.data);
    if (kind === "state") countJobs();
    this.on[kind]?.(row.payload ?? row, row);
    this.on.any?.(kind, row);
  }

  link(up) {
    clearTimeout(this.doubt);
    if (up) this.on.link?.(true);
    else this.doubt = setTimeout(() => this.on.link?.(false), PATIENCE_MS);
  }
}
