// Send to: another program's folder, a zip to share, or a file in another form. The server says what would be written
// before it is; a job writes it. The page's one event stream belongs to the run, so the job is polled.

import { ApiError, api } from "../lib/api.js";
import { $, $$, page, show, write } from "../lib/dom.js";
import { fileSize } from "../lib/format.js";
import { clearErrors, onSubmit, showFieldErrors } from "../lib/forms.js";
import { whenBack } from "../lib/server.js";
import { wording } from "../lib/wording.js";

const POLL_MS = 400;
const TYPING_MS = 250;
const FIELDS = ["step", "program", "strength", "folder"];
const FORMATS = ["kohya", "merged"]; // a file alone, without a plan
const form = $("#export-form");
const { step: steps, folder, strength } = form.elements;
const file = $("#export-file");
const ENDED = { failed: "The file could not be written.", stopped: "Stopped before the file was complete.", cancelled: "Removed from the queue." };

let asked = 0; // the newest plan that was asked for

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const chosen = () => form.elements.program.value;
const radio = () => $(`[name=program][value="${chosen()}"]`, form);
const hasFolder = () => "folder" in radio().dataset;
const given = () => ({ program: chosen(), step: Number(steps.value), strength: strength.value.trim().replace(",", "."), folder: hasFolder() ? folder.value.trim() : "" });

// The checkpoints that the page lists now, the newest first; the choice stays, and at first it is that of Download.
function listSteps() {
  const before = steps.value || new URL($("#download").href, location).searchParams.get("step");
  steps.replaceChildren(...$$("#checkpoints [data-step]").map((line) => new Option(`Step ${line.dataset.step}`, line.dataset.step)));
  if (before) steps.value = before;
  showFolder();
  plan();
}

// The folder that was named for the program.
function showFolder() {
  show($("#send-folder"), hasFolder());
  if (!hasFolder()) return;
  folder.value = radio().dataset.folder;
  const { hint } = radio().dataset;
  write($("#export-folder-hint"), `${hint[0].toUpperCase()}${hint.slice(1)}. Leave it empty for a zip to download.`);
}

function label() {
  if (FORMATS.includes(chosen())) return "Write the file";
  return given().folder ? "Send" : "Make the zip";
}

const noNumber = (text) => ({ field: "strength", message: `is “${text}”, which is no number; write one such as 0.9` });
const isNumber = (text) => text !== "" && Number.isFinite(Number(text));

async function plan() {
  const turn = (asked += 1);
  const wanted = given();
  write($("#send-now"), label());
  clearErrors(form);
  if (FORMATS.includes(wanted.program) || !steps.value) return show($("#send-plan"), false);
  const { plan: found, problems } = await answered(wanted);
  if (turn !== asked) return; // the form has changed since
  showFieldErrors(form, FIELDS, problems);
  show($("#send-plan"), found !== null);
  if (found) showPlan(found);
}

async function answered(wanted) {
  if (!isNumber(wanted.strength)) return { plan: null, problems: [noNumber(wanted.strength)] };
  try {
    return await api("GET", `/runs/${page.dataset.run}/send?${new URLSearchParams(wanted)}`);
  } catch (error) {
    if (!("problems" in error)) throw error;
    write($("[data-error]", form), error.message);
    return { plan: null, problems: error.problems };
  }
}

function showPlan(found) {
  const parent = found.folder && shared(found.files.map(({ path }) => path));
  write($("#send-to"), found.folder ? `Into ${parent.slice(0, -1)}:` : `One zip to download, ${found.name}:`);
  $("#send-files").replaceChildren(...found.files.map((one) => fileLine(one, parent)));
  const preview = $("#send-preview");
  show(preview, found.preview_url !== "");
  if (found.preview_url) preview.src = found.preview_url;
  show($("#send-use"), found.lines.length > 0);
  show($("#send-lines"), !found.code);
  show($("#send-code"), found.code);
  show($("#send-copy"), found.code && Boolean(navigator.clipboard));
  $("#send-lines").replaceChildren(...found.lines.map((line) => Object.assign(document.createElement("li"), { textContent: line })));
  write($("#send-code"), found.lines.join("\n"));
  show($("#send-why"), found.why !== "");
  write($("#send-why p"), `The file has ${found.form}. ${found.why}`);
}

// The folder that holds all of these files, at any depth, with a slash at its end.
function shared(paths) {
  let length = 0;
  while (paths.every((path) => length < path.length && path[length] === paths[0][length])) length += 1;
  return paths[0].slice(0, paths[0].lastIndexOf("/", length - 1) + 1);
}

function fileLine({ path, what, there }, parent) {
  const line = document.createElement("li");
  const name = document.createElement("code");
  name.textContent = path.slice(parent.length);
  line.append(name, `: ${what}${there ? ". A file of this name is there and stays; unless it is the same, the new ones get a number" : ""}`);
  return line;
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
    await pause(POLL_MS);
  }
}

function offer({ id, result }) {
  if (!result.file) return write($("#export-words"), result.words);
  file.href = `/api/exports/${id}/file`;
  write($("span", file), `Download ${result.name}`);
  show(file);
  write($("#export-words"), `The file is complete: ${fileSize(result.bytes)}.`);
}

function begin() {
  const { program, step, strength: text, folder: place } = given();
  if (!isNumber(text)) throw new ApiError(422, { message: "The strength needs another look.", problems: [noNumber(text)] });
  const run = Number(page.dataset.run);
  if (FORMATS.includes(program)) return api("POST", "/exports", { run, step, format: program, strength: program === "merged" ? Number(text) : 1 });
  return api("POST", `/runs/${run}/send`, { program, step, strength: Number(text), folder: place });
}

for (const button of $$("[data-open=export]")) button.addEventListener("click", listSteps);

form.addEventListener("change", (event) => {
  show(file, false);
  show($("#export-work"), false);
  if (event.target.name === "program") showFolder();
  plan();
});

let typing = null;
for (const field of [folder, strength]) {
  field.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(plan, TYPING_MS);
  });
}

$("#send-copy").addEventListener("click", async ({ currentTarget }) => {
  await navigator.clipboard.writeText($("#send-code").textContent);
  write($("span", currentTarget), "Copied");
  setTimeout(() => write($("#send-copy span"), "Copy"), 2000);
});

onSubmit(form, async () => {
  clearTimeout(typing);
  show(file, false);
  const { job_id: id } = await begin();
  if (hasFolder()) radio().dataset.folder = folder.value.trim();
  show($("#export-progress"));
  show($("#export-work"));
  const job = await ended(id);
  show($("#export-progress"), false);
  if (job.state === "succeeded") return offer(job);
  show($("#export-work"), false);
  throw new ApiError(0, { message: job.error?.message ?? ENDED[job.state], problems: job.error?.problems ?? [] });
});
