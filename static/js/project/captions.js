// Captions are saved as they are typed, in the loupe and in the list; the mark beside each shows it.

import { ApiError, api } from "../lib/api.js";
import { icon } from "../lib/dom.js";
import { onBack } from "../lib/server.js";
import { room } from "./state.js";

const PAUSE_MS = 600;
const RETRY_MS = 3000;

function mark(line, kind, words) {
  if (!line) return;
  if (kind) line.dataset.mark = kind;
  else delete line.dataset.mark;
  line.replaceChildren(...(kind === "saved" ? [icon("succeeded")] : []), words);
}

class Typed {
  constructor() {
    this.waiting = new Map(); // field -> timer
    this.saving = new Set(); // fields whose words the studio does not have yet
    this.lines = new WeakMap(); // field -> where its state is shown
    onBack(() => { for (const field of [...this.waiting.keys()]) this.save(field); });
    addEventListener("pagehide", () => this.saveAll());
    document.addEventListener("visibilitychange", () => document.hidden && this.saveAll());
  }

  // The field becomes that of this photo, unless it is and somebody types in it.
  show(field, photo) {
    const same = field.dataset.photo === String(photo.id);
    if (same && (this.waiting.has(field) || this.saving.has(field) || document.activeElement === field)) return;
    if (!same) this.leave(field);
    field.dataset.photo = photo.id;
    field.value = photo.caption ?? "";
  }

  listen(field, line) {
    this.lines.set(field, line);
    field.addEventListener("input", () => {
      clearTimeout(this.waiting.get(field));
      this.waiting.set(field, setTimeout(() => this.save(field), PAUSE_MS));
      mark(line, null, "");
    });
    field.addEventListener("blur", () => this.leave(field));
  }

  leave(field) {
    if (this.waiting.has(field)) this.save(field);
  }

  async save(field) {
    clearTimeout(this.waiting.get(field));
    this.waiting.delete(field);
    const [id, line, text] = [Number(field.dataset.photo), this.lines.get(field), field.value];
    if (text.trim() === (room.photos.get(id)?.caption ?? "")) return;
    mark(line, null, "Saving …");
    this.saving.add(field);
    const still = () => field.dataset.photo === String(id) && !this.waiting.has(field);
    try {
      await room.change(id, { caption: text, typing: true }).finally(() => this.saving.delete(field));
      if (still()) mark(line, "saved", "Saved");
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (still()) mark(line, "failed", `Not saved: ${error.problems[0]?.message ?? error.message}`);
      if (still() && (error.status === 0 || error.status >= 500)) this.waiting.set(field, setTimeout(() => this.save(field), RETRY_MS));
    }
  }

  // The page goes: send without waiting for an answer.
  saveAll() {
    for (const [field, timer] of this.waiting) {
      clearTimeout(timer);
      api("PATCH", `/photos/${field.dataset.photo}`, { caption: field.value, typing: true }, { keepalive: true }).catch(() => {});
    }
    this.waiting.clear();
  }
}

export const typed = new Typed();
