// One stream of server-sent events a page: in order, none lost and none twice.
//
// It starts after the newest event that the page was rendered with, closes while the page is hidden or the studio does not
// answer (lib/server.js), and continues after the last event received. So a hidden tab, a laptop that slept and a studio
// that was restarted all catch up.

import { api } from "./api.js";
import { $, show, throttled, write } from "./dom.js";
import { check, onBack, onGone } from "./server.js";

const KINDS = ["state", "phase", "metric", "measured", "sample", "class_picture", "checkpoint", "rewind", "log", "edit"];
const RETRY_MS = 2000; // after an answer that is no stream

// The number beside "Queue" in the navigation.
const countJobs = throttled(400, async () => {
  const jobs = await api("GET", "/jobs?state=queued&state=running").catch(() => null);
  if (!jobs) return;
  show(document.getElementById("active-jobs"), jobs.length > 0);
  write(document.getElementById("active-jobs-count"), jobs.length);
});

export class Events {
  // `filter` is {run}, {job} or {project}; `on` has handlers by event kind, and may have `any`.
  constructor(filter, after, on) {
    this.filter = filter;
    this.last = Number(after) || 0;
    this.on = on;
    this.source = null;
    this.retry = null;
    this.newest = new Map(); // kind and job -> the newest event of those that move a figure
    document.addEventListener("visibilitychange", () => (document.hidden ? this.close() : this.open()));
    addEventListener("pagehide", () => this.close());
    addEventListener("pageshow", (event) => event.persisted && this.open());
    onGone(() => this.close());
    onBack(() => { this.close(); this.open(); countJobs(); });
    this.open();
  }

  open() {
    if (this.source || document.hidden) return;
    clearTimeout(this.retry);
    const query = new URLSearchParams({ ...this.filter, after: this.last });
    const source = new EventSource(`/api/events?${query}`);
    this.source = source;
    for (const kind of KINDS) source.addEventListener(kind, (event) => this.handle(kind, event));
    source.onerror = () => {
      check();
      if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
      this.close();
      this.retry = setTimeout(() => this.open(), RETRY_MS);
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
    if (kind === "phase" || kind === "metric") this.newest.set(`${kind} ${row.job_id}`, { kind, id, row });
    this.on[kind]?.(row.payload ?? row, row);
    this.on.any?.(kind, row);
  }

  // Call the handlers again for what has come since `fresh`, a page that was fetched again, was rendered: its figures are
  // those of then, and the next event may be long in coming.
  replay(fresh) {
    const after = Number($("#main", fresh).dataset.after);
    for (const { kind, id, row } of this.newest.values()) if (id > after) this.on[kind]?.(row.payload ?? row, row);
  }
}
