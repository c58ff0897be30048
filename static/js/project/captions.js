// Captions are saved as they are typed; the mark under each shows it.

import { ApiError, api } from "../lib/api.js";
import { $, $$, icon } from "../lib/dom.js";

const PAUSE_MS = 600;
const waiting = new Map(); // textarea -> timer
const saved = new WeakMap(); // textarea -> the text that the studio has

const cardOf = (field) => field.closest("[data-photo]");

function mark(field, kind, words) {
  const line = $("[data-saved]", cardOf(field));
  if (kind) line.dataset.mark = kind;
  else delete line.dataset.mark;
  line.replaceChildren(...(kind === "saved" ? [icon("succeeded")] : []), words);
}

async function save(field, more) {
  clearTimeout(waiting.get(field));
  waiting.delete(field);
  const text = field.value;
  if (text.trim() === saved.get(field)) {
    mark(field, null, "");
    return;
  }
  mark(field, null, "Saving …");
  try {
    await api("PATCH", `/photos/${cardOf(field).dataset.photo}`, { caption: text }, more);
    saved.set(field, text.trim());
    if (!waiting.has(field)) mark(field, "saved", "Saved");
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    mark(field, "failed", `Not saved: ${error.problems[0]?.message ?? error.message}`);
    if (error.status === 0 || error.status >= 500) waiting.set(field, setTimeout(() => save(field), 3000));
  }
}

export function listenToCaptions(list) {
  for (const field of $$("[data-caption]", list)) saved.set(field, field.value.trim());
  list.addEventListener("input", (event) => {
    const field = event.target.closest("[data-caption]");
    if (!field) return;
    clearTimeout(waiting.get(field));
    waiting.set(field, setTimeout(() => save(field), PAUSE_MS));
    mark(field, null, "");
  });
  list.addEventListener("focusout", (event) => waiting.has(event.target) && save(event.target));
  const saveAll = () => { for (const field of [...waiting.keys()]) save(field, { keepalive: true }); };
  addEventListener("pagehide", saveAll);
  document.addEventListener("visibilitychange", () => document.hidden && saveAll());
}

// Show a caption from a job or another tab, unless the user is typing in its field.
export function setCaption(card, text) {
  const field = $("[data-caption]", card);
  if (waiting.has(field) || document.activeElement === field) return;
  saved.set(field, (text ?? "").trim());
  if (field.value !== (text ?? "")) field.value = text ?? "";
}
