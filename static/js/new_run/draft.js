// The edits of this form that no run was started with yet, stored in this browser: they survive leaving the page,
// reloading it and closing the browser.
//
//   {edits: {field: text}, again: the id of the run whose settings were filled in, before: the edits in whose place}

import { page } from "../lib/dom.js";

const NAME = page.dataset.draft; // of this project alone

// Null without edits, and where the browser stores nothing.
export function load() {
  try {
    const stored = JSON.parse(localStorage.getItem(NAME));
    return stored && typeof stored.edits === "object" ? stored : null;
  } catch {
    return null;
  }
}

export function store(edits, again, before) {
  try {
    if (again !== null || Object.keys(edits).length) localStorage.setItem(NAME, JSON.stringify({ edits, again, before }));
    else localStorage.removeItem(NAME);
  } catch { /* no room, or not allowed: the form works without */ }
}

export const clear = () => store({}, null, null);
