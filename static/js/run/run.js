// A run's page, live: state, progress, loss, samples, checkpoints, log. The page holds them as of event `after`; every later
// change comes through the event stream.

import { ApiError, api, quietly } from "../lib/api.js";
import { checkFields } from "../lib/check.js";
import { $, $$, page, show, showState, throttled, toast, write } from "../lib/dom.js";
import { Events } from "../lib/events.js";
import { duration, loss } from "../lib/format.js";
import { clearErrors, onPress, onSubmit, textsOf } from "../lib/forms.js";
import { onBack } from "../lib/server.js";
import { wording } from "../lib/wording.js";
import { ClassPictures } from "./class_pictures.js";
import { Harm } from "./harm.js";
import { Log } from "./log.js";
import { Room } from "./room.js";
import { SCORE_COLUMNS, showDiagnosis } from "./score_chart.js";

const id = page.dataset.run;
const now = { state: page.dataset.state, step: Number(page.dataset.step), steps: Number(page.dataset.steps), eta: null, etaAt: 0, diagnosis: "", stopping: page.dataset.stop !== "none" };
const clock = []; // [when, step] of the latest steps: the speed
const FORECAST_MS = 20_000; // between two forecasts of the time left, which the page counts down
const POINTS = 20000; // of the curve, as many as the server gives: fewer would show less where one zooms in
const room = new Room(id, now, (text) => drawFigure("#loss-now", text));
const { charts, scene, checkpoints } = room;
const log = new Log(room.data.log);
const harm = new Harm(id, room.data, { state: () => now.state, step: () => room.used });
const classPictures = $("#class-pictures") ? new ClassPictures($("#class-pictures")) : null;

// ---- the numbers ----

function secondsPerStep() {
  if (clock.length < 2) return null;
  const [from, to] = [clock[0], clock.at(-1)];
  return to[1] > from[1] ? (to[0] - from[0]) / 1000 / (to[1] - from[1]) : null;
}

function drawNumbers() {
  write($("#step"), now.step);
  write($("#steps"), now.steps);
  const bar = $("#progress");
  bar.max = now.steps || 1;
  bar.value = now.step;
  const each = secondsPerStep();
  const running = now.state === "running";
  const left = running && now.eta !== null ? Math.max(0, now.eta - (performance.now() - now.etaAt) / 1000) : null;
  const share = now.steps ? Math.floor((now.step / now.steps) * 100) : 0;
  document.title = `${running ? `${share}% · ` : ""}${$("#run-name").textContent} · Likeness`;
  drawFigure("#eta", left !== null ? duration(left) : "");
  drawFigure("#speed", running && each ? (each >= 1 ? `${each.toFixed(1)} s a step` : `${(1 / each).toFixed(1)} steps a second`) : "");
}

// The studio knows what is still to come: samples, scores and checkpoints too.
function setTimeLeft(seconds) {
  now.eta = seconds ?? now.eta;
  now.etaAt = performance.now();
  drawNumbers();
}

const askForTimeLeft = async () => {
  if (now.state !== "running" || document.hidden) return;
  const found = (await api("GET", "/jobs/forecast")).find((one) => one.job_id === Number(page.dataset.job));
  if (found) setTimeLeft(found.seconds_left);
};

const askSoon = throttled(2000, () => quietly(askForTimeLeft()));

// A figure without a value is not seen; while the run goes on it keeps its place.
function drawFigure(selector, text) {
  const value = $(selector);
  write(value, text);
  value.parentElement.classList.toggle("unknown", text === "");
  if (text || now.state === "running") show(value.parentElement);
}

const drawNumbersSoon = throttled(250, drawNumbers);

let spokenAt = 0;

// For screen readers: states at once, progress at most every fifteen seconds.
function speak(text, urgent = false) {
  if (!urgent && Date.now() - spokenAt < 15000) return;
  spokenAt = Date.now();
  write($("#spoken"), text);
}

function showButtons() {
  for (const button of $$("[data-when]")) show(button, button.dataset.when.split(" ").includes(now.state));
  write($("#stop span"), now.state === "queued" ? "Remove from the queue" : now.stopping ? "Stopping …" : "Stop");
  $("#stop").disabled = now.stopping;
}

function showTone() {
  $("#progress").dataset.tone = { failed: "bad", succeeded: "good" }[now.state] ?? "";
}

// A stop request is shown in every tab until the run has stopped.
function showStopping(stop) {
  now.stopping = now.state === "running" && Boolean(stop) && stop !== "none";
  if (now.stopping) write($("#phase"), wording.stopping[stop]);
  showButtons();
}

function setState(state, error, stop) {
  now.state = state;
  showState($("#state"), state);
  if (state !== "running") { clock.length = 0; now.eta = null; }
  showTone();
  write($("#phase"), state === "queued" ? wording.queued : "");
  const failed = state === "failed" && error;
  show($("#run-error"), Boolean(failed));
  if (failed) {
    write($("#run-error-text"), error.message);
    show($("#run-error-hint"), checkpoints.steps.length > 0);
    show($("#run-error-edit"), wording.editable.includes(error.code));
  }
  showStopping(stop);
  drawNumbers();
  scene.draw();
}

// ---- the curves ----

async function loadHistory() {
  const { series } = await api("GET", `/runs/${id}/metrics?names=loss,lr,${SCORE_COLUMNS.join()}&points=${POINTS}`);
  charts.loss.set(series.loss ?? [], series.lr ?? []);
  const payloads = new Map(); // step -> the names and values of its event
  for (const name of SCORE_COLUMNS) {
    for (const [step, value] of series[name] ?? []) payloads.set(step, { ...payloads.get(step), [name]: value });
  }
  for (const [step, payload] of payloads) charts.scores.push(step, payload);
}

// ---- buttons and dialogs ----

const errors = $("#action-error");
const act = (action, body = {}) => api("POST", `/runs/${id}/${action}`, body);

onPress($("#stop"), async () => {
  const { state } = await act("stop");
  if (state === "running") showStopping("stop");
}, errors);
onPress($("#stop-now"), async () => {
  await act("stop", { now: true });
  showStopping("now");
}, errors);
onPress($("#resume"), () => act("resume"), errors);
onPress($("#save-now"), async () => { await act("save"); toast("A checkpoint is saved after this step."); }, errors);
onPress($("#sample-now"), async () => { await act("sample"); toast("Samples are drawn after this step."); }, errors);

const longer = $("#continue-run");
const longerForm = $("#continue-run-form");
longer.addEventListener("opened", () => {
  clearErrors(longerForm);
  write($("#continue-steps-hint"), `${now.step} of ${now.steps} steps are done.`);
  $("#continue-steps").value = now.steps + (now.state === "succeeded" ? Number(longer.dataset.more) : 0);
});
checkFields(longerForm, `/runs/${id}/resume/check`, () => textsOf(longerForm));
onSubmit(longerForm, async (form) => {
  const { steps, activations } = textsOf(form);
  await act("resume", { steps, activations });
  longer.close();
});
onSubmit($("#rename-run-form"), async (form) => {
  const { name } = textsOf(form);
  await api("PATCH", `/runs/${id}`, { name });
  write($("#run-name"), name);
  drawNumbers();
  $("#rename-run").close();
});
onSubmit($("#delete-run form"), async () => {
  await api("DELETE", `/runs/${id}`);
  location.assign(`/projects/${page.dataset.project}`);
});

// ---- live ----

const events = {
  state(payload, row) {
    const changed = payload.state !== now.state;
    setState(payload.state, payload.error, payload.stop);
    if (changed) speak(`The run is ${wording.states[payload.state]}.`, true);
    if (payload.state === "queued" && row.payload?.steps) now.steps = row.payload.steps;
    if (changed) quietly(refresh());
  },
  phase(payload) {
    if (now.stopping) return;
    const counted = payload.of > 1 ? `, ${payload.done} of ${payload.of}` : "";
    write($("#phase"), `${payload.name}${counted}`);
  },
  metric(payload, row) {
    if (row.step === null) return;
    if (charts.scores.push(row.step, payload)) {
      charts.fillTables();
      refreshSoon();
      return;
    }
    charts.loss.push(row.step, payload.loss, payload.lr);
    now.step = Math.max(now.step, row.step);
    const when = Date.parse(row.at) || Date.now();
    clock.push([when, row.step]);
    if (clock.length > 30) clock.shift();
    if (!now.stopping) write($("#phase"), "training");
    if (now.eta === null) askSoon();
    drawNumbersSoon();
    speak(`Step ${now.step} of ${now.steps}, loss ${loss(payload.loss)}.`);
  },
  measured: () => refreshSoon(),
  sample: (payload, row) => scene.add(row.step ?? 0, payload),
  class_picture: (payload) => classPictures?.add(payload),
  checkpoint(payload, row) {
    checkpoints.add(payload.step ?? row.step, payload.adapter_bytes);
    refreshSoon();
  },
  rewind(payload) {
    room.rewind(payload.to_step);
    now.step = payload.to_step;
    clock.length = 0;
    drawNumbers();
  },
  log: (payload, row) => log.add(row.at, payload),
};

// Not in any event: the number of steps after "Continue", the time left before the first step, the diagnosis.
async function refresh() {
  const run = await api("GET", `/runs/${id}`);
  now.steps = run.steps;
  setTimeLeft(run.eta_seconds);
  if (run.state === now.state && run.state !== "running") now.step = run.step;
  showDiagnosis(run);
  room.update(run);
  harm.update(run.photo_scores);
  if (now.diagnosis && now.diagnosis !== run.verdict.kind) speak(`${run.verdict.title}.`, true);
  now.diagnosis = run.verdict.kind;
  drawNumbers();
}

const refreshSoon = throttled(500, () => quietly(refresh()));

showStopping(page.dataset.stop);
showTone();
setInterval(() => quietly(askForTimeLeft()), FORECAST_MS);
drawNumbers();
const load = () => loadHistory().catch((error) => { if (!(error instanceof ApiError)) throw error; errors.textContent = error.message; });
load();
refreshSoon();
onBack(() => { load(); refreshSoon(); });
new Events({ run: id }, page.dataset.after, events);
