// The queue: remove, stop, retry, reorder, and when each job is done. The list is fetched again when a job changes its state.

import { api, freshPage, quietly } from "../lib/api.js";
import { $, $$, page, throttled, toast, write } from "../lib/dom.js";
import { Events } from "../lib/events.js";
import { fileSize } from "../lib/format.js";
import { onBack } from "../lib/server.js";
import { Order, peers } from "./order.js";
import { Times } from "./times.js";

const FORECAST_MS = 20_000;
const queue = $("#queue");
const times = new Times(queue);
const title = document.title;

const redraw = throttled(300, async () => {
  if (order.dragging) return redraw();
  const fresh = await freshPage();
  if (!fresh || order.dragging) return;
  const focused = document.activeElement;
  const job = focused?.closest("[data-job]")?.dataset.job;
  const way = focused?.dataset?.move;
  const grip = focused?.matches("[data-grip]");
  queue.replaceChildren(...$("#queue", fresh).childNodes);
  times.received();
  showTitle();
  if (job) {
    const line = $(`[data-job="${job}"]`);
    const same = line && (grip ? $("[data-grip]", line) : $(`[data-move="${way}"]:not(:disabled)`, line));
    (same ?? (line && $("button:not(:disabled)", line)))?.focus();
  }
  events.replay(fresh);
});

// ---- the order ----

async function moveTo(line, to, undo) {
  write($("#queue-error"), "");
  const { job } = line.dataset;
  const name = $("h3", line).textContent;
  try {
    await api("POST", `/jobs/${job}/move`, { position: to });
    write($("#queue-spoken"), `${name} is at place ${to + 1}.`);
    redraw();
    if (undo !== null && await toast(`${name} is at place ${to + 1}.`, { undo: "Undo", about: "order" })) {
      await api("POST", `/jobs/${job}/move`, { position: undo });
      redraw();
    }
  } catch (error) {
    if (!("problems" in error)) throw error;
    write($("#queue-error"), error.message);
    redraw();
  }
}

const order = new Order(queue, (line, from, to) => moveTo(line, to, from));

queue.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-stop], [data-move], [data-retry]");
  if (!button) return;
  const line = button.closest("[data-job]");
  const id = line.dataset.job;
  if (button.dataset.move) {
    const from = peers(line, queue).indexOf(line);
    await moveTo(line, Math.max(0, from + (button.dataset.move === "up" ? -1 : 1)), from);
    return;
  }
  write($("#queue-error"), "");
  button.disabled = true;
  try {
    await api("POST", button.dataset.retry ?? `/jobs/${id}/stop`);
    redraw();
  } catch (error) {
    if (!("problems" in error)) throw error;
    write($("#queue-error"), error.message);
    button.disabled = false;
  }
});

// ---- live ----

// How far the job that runs is, where the page is one of many tabs.
function showTitle() {
  const bar = $('li[data-state="running"][data-lane="memory"] progress[value]', queue);
  document.title = bar ? `${Math.floor((100 * bar.value) / bar.max)}% · ${title}` : title;
}

const showStep = throttled(500, (line, step) => {
  const bar = $("progress", line);
  if (!bar?.hasAttribute("value")) return;
  bar.value = step;
  const words = $("[data-words]", line);
  write(words, words.textContent.replace(/[\d,]+(?= of )/, step));
  showTitle();
});

// A download reports its bytes as a phase.
function showBytes(line, { name, done, of }) {
  const bar = $("progress", line);
  if (!bar) return;
  bar.max = of;
  bar.value = done;
  write($("[data-words]", line), `${name}, ${fileSize(done)} of ${fileSize(of)}`);
}

const lineOf = (row) => $(`[data-job="${row.job_id}"]`, queue);

function showPicture(line, url) {
  const thumb = $(".thumb", line);
  if (thumb.matches("img")) thumb.src = url;
  else thumb.replaceWith(Object.assign(new Image(56, 56), { className: "thumb", alt: "", src: url }));
}

const askForTimes = () => quietly(api("GET", "/jobs/forecast").then((found) => times.update(found)));

setInterval(() => {
  if (document.hidden || !$$(".done-by", queue).length) return;
  askForTimes();
}, FORECAST_MS);

onBack(redraw);
document.addEventListener("visibilitychange", () => { if (!document.hidden) askForTimes(); });
const events = new Events({}, page.dataset.after, {
  state: () => redraw(),
  metric: (_, row) => {
    const line = lineOf(row);
    if (line && row.step !== null) showStep(line, row.step);
  },
  phase: (payload, row) => {
    const line = lineOf(row);
    if (line && payload.name === "downloading") showBytes(line, payload);
    else if (line && payload.of && !$("progress", line)?.hasAttribute("value")) write($("[data-words]", line), payload.of > 1 ? `${payload.name}, ${payload.done} of ${payload.of}` : payload.name);
  },
  sample: (payload, row) => {
    const line = lineOf(row);
    if (line) showPicture(line, payload.url);
  },
});
showTitle();
