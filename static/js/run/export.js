// Exporting the adapter: a job writes the file, then the dialog offers it; a file that was written before is offered at
// once. The page's one event stream belongs to the run, so the job is polled.

import { ApiError, api } from "../lib/api.js";
import { $, $$, page, show, write } from "../lib/dom.js";
import { fileSize } from "../lib/format.js";
import { onSubmit } from "../lib/forms.js";
import { whenBack } from "../lib/server.js";
import { wording } from "../lib/wording.js";

const POLL_MS = 400;
const form = $("#export-form");
const steps = form.elements.step;
const file = $("#export-file");
const ENDED = { failed: "The file could not be written.", stopped: "Stopped before the file was complete.", cancelled: "Removed from the queue." };

const pause = () => new Promise((resolve) => setTimeout(resolve, POLL_MS));

// The checkpoints that the page lists now, the newest first; the choice stays.
function listSteps() {
  const chosen = steps.value;
  steps.replaceChildren(...$$("#checkpoints [data-step]").map((line) => new Option(`Step ${line.dataset.step}`, line.dataset.step)));
  if (chosen) steps.value = chosen;
}

function showProgress(job) {
  const bar = $("#export-progress");
  if (job.steps) Object.assign(bar, { max: job.steps, value: job.step });
  else bar.removeAttribute("value");
  const part = job.steps ? `, ${Math.floor((job.step / job.steps) * 100)}%` : "";
  write($("#export-words"), job.state === "queued" ? wording.queued : `${job.phase || "Starting"}${part}`);
}

async function ended(id) {
  for (;;) {
    try {
      const job = await api("GET", `/jobs/${id}`);
      if (!["queued", "running"].includes(job.state)) return job;
      showProgress(job);
    } catch (error) {
      if (error.status !== 0) throw error;
      await whenBack();
    }
    await pause();
  }
}

function offer(job) {
  file.href = `/api/exports/${job.id}/file`;
  write($("span", file), `Download ${job.result.name}`);
  show(file);
  write($("#export-words"), `The file is complete: ${fileSize(job.result.bytes)}.`);
}

for (const button of $$("[data-open=export]")) button.addEventListener("click", listSteps);
form.addEventListener("change", () => { show(file, false); show($("#export-work"), false); });

onSubmit(form, async () => {
  show(file, false);
  const { job_id: id } = await api("POST", "/exports", { run: Number(page.dataset.run), step: Number(steps.value), format: form.elements.format.value });
  show($("#export-progress"));
  show($("#export-work"));
  const job = await ended(id);
  show($("#export-progress"), false);
  if (job.state === "succeeded") return offer(job);
  show($("#export-work"), false);
  throw new ApiError(0, { message: job.error?.message ?? ENDED[job.state], problems: job.error?.problems ?? [] });
});
