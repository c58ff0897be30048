// The server's words beside a field as soon as the user leaves it, the same that starting the run would answer with.

import { ApiError, api } from "../lib/api.js";
import { page } from "../lib/dom.js";
import { showFieldErrors } from "../lib/forms.js";
import { edits, form } from "./fields.js";

const left = new Set(); // the fields that the user has been in and left
let newest = 0; // counts the checks; an older answer is dropped
let pressed = false;
const waiting = [];

document.addEventListener("pointerdown", () => { pressed = true; }, true);
for (const kind of ["pointerup", "pointercancel"]) {
  document.addEventListener(kind, () => setTimeout(() => {
    pressed = false;
    for (const go of waiting.splice(0)) go();
  }), true);
}

// A line that appears moves what is below it: not while a button there is being pressed.
const released = () => (pressed ? new Promise((go) => waiting.push(go)) : Promise.resolve());

// Check the form; show what is wrong with the fields `names()`.
async function check(body, names, onShown, open) {
  newest += 1;
  const asked = newest;
  let answer;
  try {
    answer = await api("POST", `/projects/${page.dataset.project}/runs/check`, body());
  } catch (error) {
    if (error instanceof ApiError) return; // Start says so
    throw error;
  }
  await released();
  if (asked !== newest) return;
  showFieldErrors(form, names(), answer.problems, open);
  onShown();
}

// `body` makes the request for the run; `onShown` is called after errors were shown or cleared. Returns a function that
// checks every field that was left or edited, and may unfold those with errors.
export function checkFields(body, onShown) {
  const seen = () => [...new Set([...left, ...Object.keys(edits())])].filter((name) => left.has(name) || form.elements[name] !== document.activeElement);
  const checkSeen = (open = false) => check(body, seen, onShown, open);
  const leave = ({ target }) => {
    if (!target.name || !form.elements[target.name]) return;
    left.add(target.name);
    checkSeen();
  };
  form.addEventListener("focusout", leave);
  form.addEventListener("change", (event) => { if (event.target.matches("select, [type=checkbox]")) leave(event); });
  form.addEventListener("input", (event) => {
    if (event.target.matches("select, [type=checkbox]")) return;
    left.delete(event.target.name); // being edited: no words until it is left again
  });
  form.addEventListener("submit", () => { newest += 1; }, true); // its answer shows everything
  return checkSeen;
}
