// The room's one state: the photos, which are chosen, and what undo would do. Plain modules share it: each part of the page
// draws itself and listens for what changed. A library of signals would have saved the two functions `on` and `emit`.
//
//   photos [ids]   changed or new       gone [ids]   no longer there      shown     `order` is another one
//   chosen         the selection        current      the photo with focus
//   review         the verdict          history      what undo and redo would do          flush   save what waits

import { ApiError, all, api } from "../lib/api.js";
import { page, toast } from "../lib/dom.js";

const FEW = 8; // so many photos are asked for one by one
const RANGE = 1000; // ids of so wide a range are asked for at once
const STEPS = 50; // of this page's own that undo shows at once

const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);
const inNumericOrder = (ids) => [...ids].sort((one, other) => one - other);

class Room {
  constructor({ photos, buckets, template, undo, redo }) {
    this.project = page.dataset.project;
    this.photos = new Map(photos.map((photo) => [photo.id, photo]));
    this.buckets = buckets; // [[width, height], ...] in which photos will be trained
    this.template = template; // the caption of a photo without one
    this.history = { undo, redo }; // words, or null
    this.review = null;
    this.order = []; // ids as they are shown
    this.chosen = new Set();
    this.current = null;
    this.listeners = new Map();
    this.writing = Promise.resolve();
    this.own = []; // ids of what this page has changed itself: the events about it bring no news
    this.latest = new Map(); // id -> which change of this page's own was the last to be shown of it
    this.unknown = 0; // changes that the studio has not answered yet, and whose step of undo is known only then
    this.forget();
  }

  // Whether an event about these photos tells of a change of this page's own.
  isOwn(ids) {
    const at = this.own.indexOf(ids.join());
    if (at >= 0) this.own.splice(at, 1);
    return at >= 0;
  }

  // Note a change of this page's own. With `step`, the photos as they were, undo shows them before the studio answers.
  did(ids, step = null) {
    this.note(ids);
    if (!step) this.forget();
    else this.record(step);
  }

  note(ids) {
    this.own = [...this.own, inNumericOrder(ids).join()].slice(-20);
  }

  record(step) {
    this.steps = { undo: [...this.steps.undo, step].slice(-STEPS), redo: [] };
  }

  // Returns whether one of these photos has not been changed here again since: what the studio answers is its newest state.
  claim(ids) {
    const turn = Symbol("change");
    for (const id of ids) this.latest.set(id, turn);
    return (id) => this.latest.get(id) === turn;
  }

  // What undo and redo would bring back is not known any more: another page, or a job, has changed something.
  forget() {
    this.steps = { undo: [], redo: [] }; // [Map of id -> photo, or null where it is not there]
  }

  on(kinds, act) {
    for (const kind of kinds.split(" ")) this.listeners.set(kind, [...(this.listeners.get(kind) ?? []), act]);
  }

  emit(kind, ...details) {
    for (const act of this.listeners.get(kind) ?? []) act(...details);
  }

  get active() {
    return [...this.photos.values()].filter((photo) => !photo.aside);
  }

  // ---- what the page learns ----

  // Photos as the studio has them now; those that are as before are not drawn again.
  put(photos) {
    const changed = photos.filter((photo) => !same(this.photos.get(photo.id), photo));
    for (const photo of changed) this.photos.set(photo.id, photo);
    if (changed.length) this.emit("photos", changed.map((photo) => photo.id));
  }

  drop(ids) {
    const known = ids.filter((id) => this.photos.delete(id));
    if (!known.length) return;
    for (const id of known) this.chosen.delete(id);
    this.emit("gone", known);
    this.emit("chosen");
  }

  // What the studio has now of these photos, or of all. Asks for no more than it must.
  async refresh(ids = null) {
    if (ids && ids.length <= FEW) {
      const found = await Promise.all(ids.map((id) => api("GET", `/projects/${this.project}/photos?after=${id - 1}&limit=1`)));
      this.put(found.flat().filter((photo) => ids.includes(photo.id)));
      this.drop(ids.filter((id, at) => found[at][0]?.id !== id));
      return;
    }
    const [first, last] = ids ? [Math.min(...ids), Math.max(...ids)] : [1, Infinity];
    const photos = last - first < RANGE ? await api("GET", `/projects/${this.project}/photos?after=${first - 1}&limit=${last - first + 1}`) : await all(`/projects/${this.project}/photos`);
    const there = new Set(photos.map((photo) => photo.id));
    this.put(photos);
    this.drop((ids ?? [...this.photos.keys()]).filter((id) => !there.has(id)));
  }

  setHistory({ undo = null, redo = null }) {
    this.history = { undo, redo };
    this.emit("history");
  }

  setReview(review) {
    if (same(review, this.review)) return;
    this.review = review;
    this.emit("review");
  }

  // ---- selection ----

  choose(ids, current = this.current) {
    this.chosen = new Set(ids);
    this.emit("chosen");
    this.focus(current);
  }

  focus(id) {
    if (this.current === id) return;
    this.current = id;
    this.emit("current");
  }

  // ---- changes: one after the other, each a step that can be undone ----

  inOrder(act) {
    this.unknown += 1;
    return this.afterChanges(act).finally(() => { this.unknown -= 1; });
  }

  // Something after what is being written that leaves it known what undo does: a read, or a step that is recorded already.
  afterChanges(act) {
    const done = this.writing.then(act);
    this.writing = done.catch(() => {});
    return done;
  }

  // These photos as they are here.
  step(ids) {
    return new Map(ids.map((id) => [id, this.photos.get(id) ?? null]));
  }

  show(step) {
    this.put([...step.values()].filter(Boolean));
    this.drop([...step].filter(([, photo]) => !photo).map(([id]) => id));
  }

  // Change fields of one photo. Returns it.
  change(id, fields) {
    return this.inOrder(async () => {
      const before = this.step([id]);
      const photo = await api("PATCH", `/photos/${id}`, fields);
      if (!same(photo, before.get(id))) this.did([id], fields.typing ? null : before); // typing may continue a step
      this.put([photo]);
      this.setHistory({ undo: this.history.undo ?? "the last change" }); // its words come with the event
      return photo;
    });
  }

  // Change many photos as one step: `set` is that of POST edits. What is simple is shown at once, and can be undone at once.
  edit(ids, set) {
    const was = this.step(ids);
    const before = [...was.values()].filter(Boolean);
    const shown = "aside" in set ? before.filter((photo) => photo.aside !== set.aside).map((photo) => photo.id) : [];
    const recorded = shown.length > 0 && this.unknown === 0;
    const newest = recorded ? this.claim(ids) : () => true;
    const { history } = this;
    if (recorded) {
      this.note(shown);
      this.record(this.step(shown));
      this.setHistory({ undo: "the last change" }); // its words come with the answer
    }
    if (shown.length) this.put(before.map((photo) => ({ ...photo, aside: set.aside })));
    const write = async () => {
      try {
        const done = await api("POST", `/projects/${this.project}/edits`, { photos: ids, set });
        const expected = recorded && same(inNumericOrder(done.changed), inNumericOrder(shown));
        if (recorded && !expected) this.forget();
        if (!recorded && done.changed.length) this.did(done.changed, new Map(done.changed.map((id) => [id, was.get(id) ?? null])));
        if (set.deleted) this.drop(done.changed);
        this.put(done.photos.filter(({ id }) => newest(id)));
        this.setHistory(done);
        return done;
      } catch (error) {
        this.put(before);
        if (recorded) { this.forget(); this.setHistory(history); }
        throw error;
      }
    };
    return recorded ? this.afterChanges(write) : this.inOrder(write);
  }

  // "undo" or "redo"; returns what was done, or null when there was nothing. A step of this page's own is shown at once.
  move(which) {
    const step = this.unknown === 0 && this.history[which] ? this.steps[which].pop() : null;
    if (!step) this.forget();
    const back = step && this.step([...step.keys()]);
    const newest = this.claim(step?.keys() ?? []);
    if (step) {
      const other = which === "undo" ? "redo" : "undo";
      this.steps[other].push(back);
      this.show(step);
      this.setHistory({ ...this.history, [other]: this.history[which] }); // the words of both come with the answer
    }
    const write = async () => {
      if (!this.history[which]) return null;
      try {
        const done = await api("POST", `/projects/${this.project}/${which}`);
        this.note(done.photos);
        const expected = step && same(inNumericOrder(done.photos), inNumericOrder(step.keys()));
        if (expected) this.put(done.views.filter(({ id }) => newest(id)));
        else {
          this.forget();
          this.show(new Map([...done.photos.map((id) => [id, null]), ...done.views.map((photo) => [photo.id, photo])]));
          if (step) await this.refresh([...step.keys()]); // another page was quicker
        }
        this.setHistory(done);
        return done;
      } catch (error) {
        if (back) this.show(back);
        this.forget();
        throw error;
      }
    };
    return step ? this.afterChanges(write) : this.inOrder(write);
  }
}

export const room = new Room(JSON.parse(document.getElementById("set").textContent));

// Do it; a problem becomes a message. Resolves to null then.
export async function attempt(act) {
  try {
    return await act();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    toast([error.message, ...error.problems.slice(0, 3).map((one) => `${one.field} ${one.message}.`)].join(" "));
    return null;
  }
}

// Change photos, and offer to take it back where it was done.
export async function editWithUndo(ids, set) {
  const done = await attempt(() => room.edit(ids, set));
  if (!done) return null;
  const left = done.left_out?.length ? ` ${done.left_out[0].name} ${done.left_out[0].words}.` : "";
  toast(done.done + left, { undo: done.changed.length ? "Undo" : null, about: "step" }).then((pressed) => pressed && undo("undo"));
  return done;
}

export async function undo(which) {
  room.emit("flush"); // what waits to be saved is a step, too
  const done = await attempt(() => room.move(which));
  if (done) toast(done.done, { about: "step" });
}
