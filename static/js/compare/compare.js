// Runs beside one another: one prompt and one step, shown in the pictures of all of them, in the filmstrip and in the charts.

import { ApiError, api } from "../lib/api.js";
import { $, $$, page, show, showState, throttled, write } from "../lib/dom.js";
import { Events } from "../lib/events.js";
import { loss } from "../lib/format.js";
import { onBack } from "../lib/server.js";
import { showZoom, smoothingOf, startChartTools } from "../run/chart_tools.js";
import { RunCurves, fillTable } from "./curves.js";
import { RunsSamples, RunsScene, RunsStrip } from "./scene.js";

const { runs, prompts } = JSON.parse($("#compare-data").textContent);
const TYPING = "input, select, textarea, summary, dialog, .table-box";
const POINTS = 20000; // of a curve, as on a run's page
const CURVES_MS = 20_000; // between two readings of the curves, while a run goes on
const total = Math.max(...runs.map(({ steps }) => steps));
const percent = (value) => `${Math.round(value * 1000) / 10}%`;

// ---- the settings ----

const every = $("#every-setting");
const showSettings = () => {
  for (const row of $$("#settings-table [data-same]")) show(row, every.checked);
  show($("#no-difference"), !every.checked && !$("#settings-table tbody tr:not([data-same])"));
};
every.addEventListener("change", showSettings);
showSettings();

const add = $("#add-run");
add?.addEventListener("change", () => { if (add.value) location.assign(`/runs/compare?ids=${page.dataset.ids},${add.value}`); });

// ---- the curves ----

const charts = [];
const tied = { total: () => total, onZoom: (zoom) => showZoom(charts, zoom), onPick: (step) => go(step), onHover: (step) => strip?.hover(step) };
const losses = new RunCurves($("#loss-chart"), { ...tied, runs, text: loss, weight: smoothingOf() });
const scores = new RunCurves($("#held-chart"), { ...tied, runs, text: percent });
charts.push(losses, scores);
startChartTools(charts, (weight) => { losses.smooth(weight); fillTables(); });

const suggested = runs.map((run) => run.suggested).filter((step) => step !== null);
for (const chart of charts) chart.mark(suggested, []);

function fillTables() {
  for (const [fold, chart] of [["#loss-table", losses], ["#held-table", scores]]) if ($(fold).open) fillTable($(`${fold} tbody`), chart);
}
for (const fold of ["#loss-table", "#held-table"]) $(fold).addEventListener("toggle", fillTables);

async function load() {
  write($("#curve-error"), "");
  try {
    const found = await api("GET", `/runs/compare?ids=${page.dataset.ids}&points=${POINTS}`);
    found.runs.forEach(({ curves }, place) => {
      losses.set(place, curves.loss);
      scores.set(place, curves.held_out);
    });
    for (const [chart, words] of [["#loss-chart", "No step was taken."], ["#held-chart", "None of these runs holds a photo out."]]) write($(`${chart} .chart-empty`), words);
    fillTables();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    write($("#curve-error"), error.message);
  }
}
load();
onBack(load);

// ---- the pictures ----

const own = $("#own-steps");
const picker = $("#prompt");
let scene = null;
let strip = null;

function go(step) {
  scene?.go(step);
}

// The step with samples at which each run's suggested checkpoint is shown.
function suggestedSteps(samples) {
  const known = runs.filter((run) => run.suggested !== null);
  return new Map(known.map((run) => [run.id, samples.before(run.suggested)]));
}

function drawStep() {
  if (!scene || !strip) return;
  const { samples, step } = scene;
  const isOwn = samples.own !== null;
  strip.update({ step, best: null, starred: null, checkpoints: new Set(), running: false, suggested: suggestedSteps(samples) });
  write($("#shown-step"), isOwn ? "Each at its suggested step" : `Step ${step.toLocaleString("en")}${step ? "" : ", the base"}`);
  own.setAttribute("aria-pressed", isOwn);
  for (const chart of charts) chart.head(isOwn ? null : step);
}

function showPrompt(place) {
  const samples = new RunsSamples(runs, prompts[place]);
  picker.value = place;
  strip.change(samples);
  scene.change(samples);
}

function turn(way) {
  showPrompt((Number(picker.value) + way + prompts.length) % prompts.length);
}

if (prompts.length) {
  const samples = new RunsSamples(runs, prompts[0]);
  strip = new RunsStrip(samples, { total: () => total, go, turn });
  scene = new RunsScene(samples, { base: "the base", photos: [], state: () => "succeeded", onShow: drawStep });
  scene.against = `run ${runs[0].id}`;
  scene.draw();
  scene.wipe(0);
  drawStep();
  picker.addEventListener("change", () => showPrompt(Number(picker.value)));
  show(own, suggested.length > 0);
  own.addEventListener("click", () => (scene.samples.own ? go(scene.step) : scene.showOwn(suggestedSteps(scene.samples))));
  for (const button of $$("[data-suggested]")) button.addEventListener("click", () => { go(Number(button.dataset.suggested)); $("#stage").scrollIntoView({ block: "nearest" }); });
}
page.classList.add("drawn");

// ---- live ----

const idOf = new Set(runs.map(({ id }) => id));
const loadSoon = throttled(CURVES_MS, load);

// A picture of a prompt that this page knows takes its place at once; one of a new prompt is there when the page is loaded anew.
function addSample(run, step, sample) {
  const place = prompts.findIndex(({ samples }) => samples.some((one) => one.run_id === run && one.prompt_id === sample.prompt_id));
  if (place < 0) return;
  prompts[place].samples.push({ ...sample, run_id: run, step });
  if (place === Number(picker.value)) scene.add(step, { ...sample, prompt_id: run });
}

new Events({}, page.dataset.after, {
  state: (payload, row) => { if (idOf.has(row.run_id)) showState($(`#state-${row.run_id}`), payload.state); },
  metric: (_, row) => { if (idOf.has(row.run_id)) loadSoon(); },
  sample: (payload, row) => { if (scene && idOf.has(row.run_id)) addSample(row.run_id, row.step ?? 0, payload); },
});

// Left and right walk the steps wherever nothing else takes these keys; in the filmstrip up and down change the prompt.
document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.target.closest(TYPING) || !scene) return;
  const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!way) return;
  event.preventDefault();
  scene.move(way);
});
