// What was drawn: the one home of drawings, their pictures, and which of them are shown. It tells the other files what changed.

import { ApiError, api } from "../lib/api.js";
import { toast } from "../lib/dom.js";

export const data = JSON.parse(document.getElementById("darkroom-data").textContent);

class Darkroom {
  constructor() {
    this.drawings = new Map(); // job -> drawing, the newest first
    this.pictures = new Map(); // id -> {picture, drawing}
    this.terms = []; // each must be found in a picture's words
    this.favourites = false; // whether these alone are shown
    this.handlers = new Map();
    this.fetched = Promise.resolve();
    this.set(data.drawings);
  }

  on(kind, act) { this.handlers.set(kind, [...(this.handlers.get(kind) ?? []), act]); }
  emit(kind, ...args) { for (const act of this.handlers.get(kind) ?? []) act(...args); }

  set(list) {
    this.drawings = new Map(list.map((drawing) => [drawing.job_id, drawing]));
    this.index();
  }

  // Newer drawings come first, and one that is known keeps its place.
  put(job, drawing) {
    if (!drawing) this.drawings.delete(job);
    else if (this.drawings.has(job)) this.drawings.set(job, drawing);
    else this.drawings = new Map([[job, drawing], ...this.drawings].sort(([one], [other]) => other - one));
    this.index();
    this.emit("drawings");
  }

  index() {
    this.pictures = new Map();
    for (const drawing of this.drawings.values()) {
      for (const picture of drawing.pictures) this.pictures.set(picture.id, { picture, drawing });
    }
  }

  // ---- which are shown ----

  show(text, favourites) {
    this.terms = text.toLowerCase().split(/\s+/).filter(Boolean);
    this.favourites = favourites;
    this.emit("drawings");
  }

  get filtered() { return this.terms.length > 0 || this.favourites; }

  matches(drawing, picture) {
    if (this.favourites && !picture.favourite) return false;
    if (!this.terms.length) return true;
    const words = [picture.prompt || drawing.prompt, drawing.drawn_with, drawing.model, picture.label, `seed ${picture.seed}`].join(" ").toLowerCase();
    return this.terms.every((term) => (/^\d+$/.test(term) ? words.split(/[^\w.]+/).includes(term) : words.includes(term)));
  }

  // [{drawing, pictures, places}] that the gallery shows, the newest first.
  get shown() {
    const found = [];
    for (const drawing of this.drawings.values()) {
      const pictures = this.filtered ? drawing.pictures.filter((picture) => this.matches(drawing, picture)) : drawing.pictures;
      if (!this.filtered || pictures.length) found.push({ drawing, pictures, places: this.filtered ? [] : drawing.to_come });
    }
    return found;
  }

  // Ids in the order in which they are shown.
  get order() { return this.shown.flatMap(({ pictures }) => pictures.map(({ id }) => id)); }

  // ---- what the server knows ----

  // One request at a time, so that an older answer never replaces a newer one.
  queue(act) {
    this.fetched = this.fetched.then(act).catch((error) => { if (!(error instanceof ApiError)) throw error; });
    return this.fetched;
  }

  refresh(job) { return this.queue(async () => this.put(job, await api("GET", `/drawings/${job}`))); }

  refreshAll() {
    return this.queue(async () => {
      this.set(await api("GET", "/drawings"));
      this.emit("drawings");
    });
  }

  // ---- what the user does ----

  async favourite(id) {
    const { picture, drawing } = this.pictures.get(id);
    const wanted = !picture.favourite;
    if (!await attempt(() => api("PATCH", `/pictures/${id}`, { favourite: wanted }))) return;
    picture.favourite = wanted;
    this.put(drawing.job_id, { ...drawing });
    this.emit("favourite", id);
  }

  // Delete one picture; a message offers to take that back.
  async remove(id) {
    const { drawing } = this.pictures.get(id);
    if (!await attempt(() => api("DELETE", `/pictures/${id}`))) return;
    const pictures = drawing.pictures.filter((each) => each.id !== id);
    this.put(drawing.job_id, pictures.length || drawing.can_stop || drawing.error ? { ...drawing, pictures } : null);
    this.offerUndo(id, drawing.job_id);
  }

  async offerUndo(id, job) {
    if (!await toast("The picture is in the trash.", { undo: "Undo" })) return;
    if (await attempt(() => api("POST", `/pictures/${id}/restore`))) await this.refresh(job);
  }

  // At once, whether it waits or is being drawn: nothing of the picture in work is worth saving.
  async stop(job) {
    if (await attempt(() => api("POST", `/jobs/${job}/stop`, { now: true }))) toast("The drawing is stopped.");
    await this.refresh(job);
  }

  // Take the error of a drawing that failed off the page, and the drawing where it has no picture.
  async dismiss(job) {
    const set = async (dismissed) => {
      await attempt(() => api("POST", `/jobs/${job}/dismiss`, { dismissed }));
      await this.refresh(job);
    };
    await set(true);
    if (await toast("The failed drawing is dismissed.", { undo: "Undo" })) await set(false);
  }

  async again(id) {
    if (!await attempt(async () => this.refresh((await api("POST", `/pictures/${id}/again`)).job_id))) return;
    toast("It is drawn again, and compared with this one.");
  }
}

// Whether it could be done; a message says why not.
export async function attempt(act) {
  try {
    await act();
    return true;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    toast([error.message, ...error.problems.map((one) => `Its ${one.field} ${one.message}.`)].join(" "));
    return false;
  }
}

export const room = new Darkroom();
