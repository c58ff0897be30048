// The sample prompts as a list of lines, over the field that holds them as text: one prompt per line, with {trigger} and
// {class_word}. A line shows the subject's own words; what it means stays a template, so that a renamed trigger follows.

import { $, $$, copy, page, show, write } from "../lib/dom.js";
import { baseOf, offerBases, onDraw, seedOf } from "./bases.js";
import { fieldOf, filled, form, inputOf, proposed, typeInto, valueOf } from "./fields.js";

const field = fieldOf("sample_prompts");
const list = $("#prompts");
const most = Number(field.dataset.atMost);
const proposals = JSON.parse($("#proposals-data").textContent);
const { trigger, classWord } = page.dataset;
let prompts = []; // templates, those that are empty included
let dragged = null;

const whole = (words) => new RegExp(`(?<![\\p{L}\\p{N}_])${words.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}(?![\\p{L}\\p{N}_])`, "gu");

// Back to a template. The class word alone stays a word: it may be one of the sentence's own.
const template = (text) => text.replace(whole(`${trigger} ${classWord}`), "{trigger} {class_word}").replace(whole(trigger), "{trigger}");

const announce = (text) => write($("#prompts-said"), text);

function store() {
  typeInto(field, prompts.filter((one) => one.trim()).join("\n"));
}

function showSeed(row, index) {
  const seed = seedOf(index);
  const known = baseOf(prompts[index], index);
  const picture = $(".seed img", row);
  if (known && picture.getAttribute("src") !== known.url) {
    picture.src = known.url;
  }
  picture.alt = `What the base draws for prompt ${index + 1}`;
  show(picture, Boolean(known));
  write($(".seed span", row), Number.isFinite(seed) ? `seed ${seed}` : "");
}

function showSeeds() {
  $$(".prompt", list).forEach(showSeed);
  offerBases(prompts);
}

function draw() {
  list.replaceChildren(...prompts.map((prompt, index) => {
    const row = copy("prompt-template");
    const input = $("input", row);
    input.value = filled(prompt);
    input.setAttribute("aria-label", `Prompt ${index + 1}`);
    input.setAttribute("aria-describedby", "knob-sample_prompts-hint knob-sample_prompts-error");
    for (const [act, words] of [["up", "up"], ["down", "down"], ["remove", ""]]) {
      const button = $(`[data-act="${act}"]`, row);
      button.setAttribute("aria-label", act === "remove" ? `Remove prompt ${index + 1}` : `Move prompt ${index + 1} ${words}`);
      button.disabled = (act === "up" && index === 0) || (act === "down" && index === prompts.length - 1);
    }
    showSeed(row, index);
    return row;
  }));
  offer();
}

// Proposals of the goal that are not in the list.
function offer() {
  offerBases(prompts);
  $("#add-prompt").disabled = prompts.length >= most;
  const goal = form.elements.goal.value || proposed.goal;
  const fresh = (proposals[goal] ?? []).filter(({ text }) => !prompts.some((one) => filled(one) === filled(text)));
  $("#proposals").replaceChildren(...(prompts.length >= most ? [] : fresh).map(({ label, text, reason }) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "button chip-button";
    button.textContent = `+ ${label}`;
    button.title = `${filled(text)}: ${reason}`;
    button.addEventListener("click", () => add(text));
    return button;
  }));
}

const inputAt = (index) => $$("input", list)[index];

function add(text) {
  prompts.push(text);
  draw();
  if (text) store();
  inputAt(prompts.length - 1).focus();
  announce(`Prompt ${prompts.length} added.`);
}

function move(from, to) {
  if (to < 0 || to >= prompts.length || from === to) return;
  prompts.splice(to, 0, ...prompts.splice(from, 1));
  draw();
  store();
  announce(`Now prompt ${to + 1} of ${prompts.length}.`);
}

function remove(index) {
  prompts.splice(index, 1);
  draw();
  store();
  (inputAt(Math.min(index, prompts.length - 1)) ?? $("#add-prompt")).focus();
  announce(`Prompt ${index + 1} removed.`);
}

const placeOf = (element) => $$(".prompt", list).indexOf(element.closest(".prompt"));

// Draw the list again where the field was filled in by something else: a preset, a reset, an earlier run.
function follow() {
  const now = valueOf(field).split("\n").filter(Boolean);
  if (prompts.filter((one) => one.trim()).join("\n") !== now.join("\n") || list.childElementCount !== prompts.length) prompts = now;
  draw();
}

list.addEventListener("input", (event) => {
  event.stopPropagation();
  const index = placeOf(event.target);
  prompts[index] = template(event.target.value);
  inputOf(field).value = prompts.filter((one) => one.trim()).join("\n");
  inputOf(field).dispatchEvent(new Event("input", { bubbles: true }));
  showSeed(event.target.closest(".prompt"), index);
  offer();
});
list.addEventListener("focusout", (event) => {
  if (event.target.matches("input")) inputOf(field).dispatchEvent(new FocusEvent("focusout", { bubbles: true }));
});
list.addEventListener("click", (event) => {
  const button = event.target.closest("[data-act]");
  if (!button) return;
  const index = placeOf(button);
  const { act } = button.dataset;
  if (act === "remove") return remove(index);
  const to = index + (act === "up" ? -1 : 1);
  move(index, to);
  const again = $$(".prompt", list)[to];
  ($(`[data-act="${act}"]:not(:disabled)`, again) ?? $("input", again)).focus();
});
list.addEventListener("keydown", (event) => {
  if (!event.target.matches("input")) return;
  const index = placeOf(event.target);
  if (event.altKey && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
    event.preventDefault();
    const to = index + (event.key === "ArrowUp" ? -1 : 1);
    move(index, to);
    inputAt(Math.min(Math.max(to, 0), prompts.length - 1)).focus();
  } else if (event.key === "Enter") {
    event.preventDefault(); // a line ends, and the run does not start
    if (index === prompts.length - 1 && prompts.length < most && event.target.value.trim()) add("");
    else inputAt(index + 1)?.focus();
  }
});
list.addEventListener("dragstart", (event) => {
  dragged = placeOf(event.target);
  event.dataTransfer.effectAllowed = "move";
  event.dataTransfer.setData("text/plain", String(dragged));
  event.dataTransfer.setDragImage(event.target.closest(".prompt"), 8, 8);
});
list.addEventListener("dragover", (event) => {
  if (dragged === null) return;
  event.preventDefault();
  event.stopPropagation();
});
list.addEventListener("drop", (event) => {
  if (dragged === null) return;
  event.preventDefault();
  event.stopPropagation();
  const row = event.target.closest(".prompt");
  if (row) move(dragged, placeOf(row));
  dragged = null;
});
list.addEventListener("dragend", () => { dragged = null; });
$("#add-prompt").addEventListener("click", () => add(""));

onDraw(() => prompts, showSeeds);
field.addEventListener("filled", follow);
form.addEventListener("input", (event) => {
  if (["sample_seed", "model"].includes(event.target.name)) showSeeds();
});
form.addEventListener("change", (event) => { if (event.target.name === "goal") offer(); });
follow();
