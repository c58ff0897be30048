// The server's words beside a field as soon as the user leaves it, the same that sending the form would answer with.

import { ApiError, api } from "./api.js";
import { showFieldErrors } from "./forms.js";

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

// Check `form` when one of its fields is left: `path` is asked with `body()`, and answers with problems. `edited()` names
// fields to check without their being left; `onShown` is called after errors were shown or cleared. Returns a function
// that checks every field that was left or edited, and may unfold those with errors.
export function checkFields(form, path, body, { edited = () => [], onShown = () => {} } = {}) {
  const left = new Set(); // the fields that the user has been in and left
  let newest = 0; // counts the checks; an older answer is dropped
  const seen = () => [...new Set([...left, ...edited()])].filter((name) => left.has(name) || form.elements[name] !== document.activeElement);
  const check = async (open = false) => {
    newest += 1;
    const asked = newest;
    let answer;
    try {
      answer = await api("POST", path, body());
    } catch (error) {
      if (error instanceof ApiError) return; // sending the form says so
      throw error;
    }
    await released();
    if (asked !== newest) return;
    showFieldErrors(form, seen(), answer.problems, open);
    onShown();
  };
  const leave = ({ target }) => {
    if (!target.name || !form.elements[target.name]) return;
    left.add(target.name);
    check();
  };
  form.addEventListener("focusout", leave);
  form.addEventListener("change", (event) => { if (event.target.matches("select, [type=checkbox]")) leave(event); });
  form.addEventListener("input", (event) => {
    if (event.target.matches("select, [type=checkbox]")) return;
    left.delete(event.target.name); // being edited: no words until it is left again
  });
  form.addEventListener("submit", () => { newest += 1; }, true); // its answer shows everything
  form.closest("dialog")?.addEventListener("close", () => { newest += 1; left.clear(); });
  return check;
}
