// The queue: remove, stop, retry, reorder. The list is fetched again when a job changes its state.

import { api, freshPage } from "./lib/api.js";
import { $, $$, page, throttled, write } from "./lib/dom.js";
import { Events } from "./lib/events.js";
import { fileSize } from "./lib/format.js";
import { onBack } from "./lib/server.js";

const queue = $("#queue");

const redraw = throttled(300, async () => {
  const fresh = await freshPage();
  if (!fresh) return;
  const focused = document.activeElement;
  const job = focused?.closest("[data-job]")?.dataset.job;
  const way = focused?.dataset?.move;
  queue.replaceChildren(...$("#queue", fresh).childNodes);
  if (job) {
    const line = $(`[data-job="${job}"]`);
    ($(`[data-move="${way}"]:not(:disabled)`, line ?? document.createElement("i")) ?? (line && $("button:not(:disabled)", line)))?.focus();
  }
  events.replay(fresh);
});

queue.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-stop], [data-move], [data-retry]");
  if (!button) return;
  const line = button.closest("[data-job]");
  const id = line.dataset.job;
  write($("#queue-error"), "");
  try {
    if (button.dataset.move) {
      const waiting = $$('li[data-state="queued"]', queue);
      const place = waiting.indexOf(line) + (button.dataset.move === "up" ? -1 : 1);
      await api("POST", `/jobs/${id}/move`, { position: Math.max(0, place) });
    } else {
      button.disabled = true;
      await api("POST", button.dataset.retry ?? `/jobs/${id}/stop`);
    }
    redraw();
  } catch (error) {
    if (!("problems" in error)) throw error;
    write($("#queue-error"), error.message);
    button.disabled = false;
  }
});

const showStep = throttled(500, (line, step) => {
  const bar = $("progress", line);
  if (!bar?.hasAttribute("value")) return;
  bar.value = step;
  const words = $("[data-words]", line);
  write(words, words.textContent.replace(/[\d,]+(?= of )/, step));
});

// A download reports its bytes as a phase.
function showBytes(line, { name, done, of }) {
  const bar = $("progress", line);
  if (!bar) return;
  bar.max = of;
  bar.value = done;
  write($("[data-words]", line), `${name}, ${fileSize(done)} of ${fileSize(of)}`);
}

onBack(redraw);
const events = new Events({}, page.dataset.after, {
  state: () => redraw(),
  metric: (_, row) => {
    const line = $(`[data-job="${row.job_id}"]`, queue);
    if (line && row.step !== null) showStep(line, row.step);
  },
  phase: (payload, row) => {
    const line = $(`[data-job="${row.job_id}"]`, queue);
    if (line && payload.name === "downloading") showBytes(line, payload);
    else if (line && payload.of && !$("progress", line)?.hasAttribute("value")) write($("[data-words]", line), payload.of > 1 ? `${payload.name}, ${payload.done} of ${payload.of}` : payload.name);
  },
});
