// The adapter in other programs' forms: a job writes the file, then it is offered. What was made already is offered at
// once. The page's one stream belongs to the run, so this job is asked about while it works.

import { ApiError, api } from "./api.js";
import { $, $$, bytes, page, show, write } from "./dom.js";
import { onSubmit } from "./forms.js";

const LOOK_MS = 400;
const form = $("#other-forms-form");
const steps = form.elements.step;
const file = $("#forms-file");
const ENDED = { failed: "The file could not be made.", stopped: "Stopped before the file was whole.", cancelled: "Taken out of the queue." };

const pause = () => new Promise((resolve) => setTimeout(resolve, LOOK_MS));

// The checkpoints as the page lists them now, the newest first; what was chosen stays chosen.
function listSteps() {
  const chosen = steps.value;
  steps.replaceChildren(...$$("#checkpoints [data-step]").map((line) => new Option(`Step ${line.dataset.step}`, line.dataset.step)));
  if (chosen) steps.value = chosen;
}

function showProgress(job) {
  const bar = $("#forms-progress");
  if (job.steps) Object.assign(bar, { max: job.steps, value: job.step });
  else bar.removeAttribute("value");
  const part = job.steps ? `, ${Math.floor((job.step / job.steps) * 100)}%` : "";
  write($("#forms-words"), job.state === "queued" ? "Waiting for its turn" : `${job.phase || "Starting"}${part}`);
}

async function ended(id) {
  for (;;) {
    const job = await api("GET", `/jobs/${id}`);
    if (!["queued", "running"].includes(job.state)) return job;
    showProgress(job);
    await pause();
  }
}

function offer(job) {
  file.href = `/api/exports/${job.id}/file`;
  write($("span", file), `Download ${job.result.name}`);
  show(file);
  write($("#forms-words"), `It is whole: ${bytes(job.result.bytes)}.`);
}

$("[data-open=other-forms]").addEventListener("click", listSteps);
form.addEventListener("change", () => { show(file, false); show($("#forms-work"), false); });

onSubmit(form, async () => {
  show(file, false);
  const { job_id: id } = await api("POST", "/exports", { run: Number(page.dataset.run), step: Number(steps.value), format: form.elements.format.value });
  show($("#forms-progress"));
  show($("#forms-work"));
  const job = await ended(id);
  show($("#forms-progress"), false);
  if (job.state === "succeeded") return offer(job);
  show($("#forms-work"), false);
  throw new ApiError(0, { message: job.error?.message ?? ENDED[job.state], problems: job.error?.problems ?? [] });
});
