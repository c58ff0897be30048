// Uploads of many files: three in parallel, and at the end one line about them. What could not be added is listed.

import { ApiError, LOST, all, api, put } from "../lib/api.js";
import { $, copy, show, toast, write } from "../lib/dom.js";
import { isNoise, isZip, looksLikePhoto, pathOf } from "../lib/files.js";
import { plural } from "../lib/format.js";
import { onBack } from "../lib/server.js";
import { CaptionFiles, comparable, fitsName, isCaptionFile, isMetadata, listed } from "./caption_files.js";

const AT_ONCE = 3;
const CHARACTERS_AT_MOST = 2000; // of a caption
const NUMBERED = / \((?:[2-9]|\d{2,})\)(?=\.[^.]*$)/; // what the studio adds to a name that is taken
const folderOf = (path) => comparable(path).split("/").slice(0, -1).join("/");

export class Uploads {
  // `onPhoto(photo, file)` is called as each photo arrives, `onArchive()` when those of a zip are there, `onRefused(file)`
  // for a file that is not taken.
  constructor(projectId, { onPhoto, onArchive, onRefused = () => {} }) {
    this.projectId = projectId;
    this.onPhoto = onPhoto;
    this.onArchive = onArchive;
    this.onRefused = onRefused;
    this.arrived = new Map(); // id of a photo -> its path, as long as the page is open
    this.box = $("#uploading");
    this.list = $("#upload-list");
    this.clear();
    $("#upload-retry").addEventListener("click", () => this.retry());
    $("#upload-cancel").addEventListener("click", () => this.cancelOrClose());
    onBack(() => this.retry((item) => item.lost));
  }

  async add(files) {
    const wanted = files.filter((file) => !isNoise(file));
    if (!wanted.length) return;
    if (!this.busy) this.clear();
    const captions = wanted.filter((file) => isCaptionFile(file.name) || isMetadata(file.name));
    for (const file of wanted.filter((each) => !captions.includes(each))) {
      const item = { file, line: null, state: "waiting", done: 0, upload: null };
      this.items.push(item);
      if (!isZip(file) && !looksLikePhoto(file)) this.refuse(item, new ApiError(0, { message: `${file.name} is not a photo. JPEG, PNG, WebP, AVIF, TIFF and HEIC can be used, or a zip of them.` }), true);
    }
    show(this.box);
    this.reading += 1;
    for (const file of captions) await this.captions.add(pathOf(file), file);
    this.reading -= 1;
    this.next();
    this.draw();
    await this.end();
  }

  get busy() {
    return this.reading > 0 || this.items.some((item) => item.state === "waiting" || item.state === "sending");
  }

  // Resolves once nothing is on its way.
  async finished() {
    while (this.busy) await new Promise((resolve) => { setTimeout(resolve, 100); });
  }

  next() {
    const free = AT_ONCE - this.items.filter((item) => item.state === "sending").length;
    for (const item of this.items.filter((one) => one.state === "waiting").slice(0, free)) this.send(item);
  }

  async send(item) {
    item.state = "sending";
    const { file } = item;
    const path = isZip(file) ? "archive" : `photos/${encodeURIComponent(file.name)}?batch=${this.batch}`;
    item.upload = put(`/projects/${this.projectId}/${path}`, file, (fraction) => {
      item.done = fraction;
      this.draw();
    });
    try {
      const { status, data } = await item.upload.promise;
      if (isZip(file)) await this.unpacked(item, data);
      else this.arrive(item, data, status === 200);
      item.state = "done";
      item.done = 1;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.refuse(item, error);
    }
    this.next();
    this.draw();
    await this.end();
  }

  arrive(item, photo, known) {
    item.known = known;
    this.arrived.set(photo.id, pathOf(item.file));
    this.onPhoto(photo, item.file);
    this.caption(photo, this.captions.take(pathOf(item.file)));
  }

  async unpacked(item, found) {
    item.archive = found;
    this.captioned += found.captions;
    for (const { field, message } of found.left_out) this.report(field, message.replace(/[.]$/, ""));
    await this.onArchive();
  }

  // Note a photo's caption: `found` is {path, text} or {path, problem} of its caption file, or null.
  caption(photo, found) {
    const problem = found?.problem ?? (found?.text.length > CHARACTERS_AT_MOST ? `has ${found.text.length} characters; at most ${CHARACTERS_AT_MOST}` : null);
    if (problem) this.report(found.path, problem);
    else if (found) this.words.set(photo.id, found);
  }

  // Write the captions noted, as one step of undo.
  async writeCaptions() {
    if (!this.words.size) return;
    const noted = new Map(this.words);
    this.words.clear();
    const captions = Object.fromEntries([...noted].map(([id, { text }]) => [id, text]));
    try {
      const done = await api("POST", `/projects/${this.projectId}/edits`, { photos: [...noted.keys()], set: { captions } });
      for (const photo of done.photos) this.onPhoto(photo, null);
      this.captioned += noted.size;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      for (const { path } of noted.values()) this.report(path, `was not written: ${error.message.replace(/[.]$/, "")}`);
    }
  }

  // Once the photos are in: caption files that came after or without theirs, then a line for each that fits none.
  async end() {
    if (this.busy) return;
    this.reading += 1;
    const waiting = this.items.filter((item) => item.state === "refused").map((item) => pathOf(item.file));
    const rest = this.captions.unused(waiting);
    for (const one of rest) one.used = true;
    try {
      const photos = rest.length ? await all(`/projects/${this.projectId}/photos`) : [];
      const strangers = [];
      for (const one of rest) {
        const fits = this.photosFor(one, photos);
        if (fits.length === 1) this.caption(fits[0], { ...one, path: one.metadata ?? one.path });
        else if (fits.length) this.report(one.metadata ?? one.path, `fits ${listed(fits.map((photo) => photo.name))}; add it together with its photo`);
        else if (one.metadata) strangers.push(one);
        else this.report(one.path, "is a caption without a photo of that name");
      }
      if (strangers.length) this.report(strangers[0].metadata, `names ${plural(strangers.length, "file")} not among the photos: ${listed(strangers.map((one) => one.path))}`);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      for (const one of rest) this.report(one.path, error.message);
    }
    await this.writeCaptions();
    this.reading -= 1;
    if (!this.busy && this.captions.unused(waiting).length) { // they came meanwhile
      await this.end();
      return;
    }
    for (const { name, message } of this.captions.problems.splice(0)) this.report(name, message);
    if (this.captioned && !this.items.length && !this.list.children.length) toast(`${plural(this.captioned, "caption")} added.`);
    this.draw();
  }

  // The project's photos that a caption file can mean. Of a photo from an earlier visit the folder is not known.
  photosFor(file, photos) {
    const elsewhere = (photo) => {
      const [mine, its] = [folderOf(file.path), folderOf(this.arrived.get(photo.id) ?? "")];
      return mine && its && mine !== its;
    };
    const fits = (name) => (file.metadata ? comparable(name) === comparable(file.path).split("/").at(-1) : fitsName(file.path, name));
    return photos.filter((photo) => !elsewhere(photo) && (fits(photo.name) || fits(photo.name.replace(NUMBERED, ""))));
  }

  // Lines about files stand in the order of the files, those about what came along after them.
  line(name, state, message, place = Infinity) {
    const line = copy("upload-template");
    line.dataset.state = "refused";
    line.dataset.place = place;
    write($(".name", line), name);
    write($(".state", line), state);
    write($(".problem", line), message);
    this.list.insertBefore(line, [...this.list.children].find((other) => Number(other.dataset.place) > place) ?? null);
    show(this.box);
    return line;
  }

  // A file that came along and is not used.
  report(path, message) {
    this.line(path, "not used", `${path.split("/").at(-1)} ${message}.`);
    this.unusedFiles += 1;
  }

  refuse(item, error, forGood = false) {
    item.state = "refused";
    item.lost = error.code === LOST.code;
    item.forGood = forGood || (error.status >= 400 && error.status < 500);
    item.done = 1;
    item.line = this.line(item.file.name, "not added", error.message, this.items.indexOf(item));
    this.onRefused(item.file);
  }

  retry(which = (item) => !item.forGood) {
    for (const item of this.items.filter((one) => one.state === "refused" && which(one))) {
      item.state = "waiting";
      item.done = 0;
      item.line.remove();
    }
    this.next();
    this.draw();
  }

  cancelOrClose() {
    if (!this.busy) {
      this.clear();
      show(this.box, false);
      return;
    }
    for (const item of this.items) {
      if (item.state === "waiting") this.refuse(item, new ApiError(0, { message: "Cancelled." }));
      else if (item.state === "sending") item.upload.abort();
    }
    this.draw();
  }

  clear() {
    this.items = [];
    this.captions = new CaptionFiles();
    this.words = new Map(); // id of a photo -> {path, text}, not written yet
    this.captioned = 0; // photos that got a caption from a file
    this.unusedFiles = 0;
    this.reading = 0; // steps of work on caption files that go on
    this.batch = crypto.randomUUID(); // photos of one drop are one step of undo
    this.list.replaceChildren();
  }

  // {added, known, refused} so far; a zip counts by what was in it.
  counts() {
    const done = this.items.filter((item) => item.state === "done");
    const inZips = (field) => done.reduce((sum, item) => sum + (item.archive?.[field] ?? 0), 0);
    const single = done.filter((item) => !item.archive);
    return {
      added: single.filter((item) => !item.known).length + inZips("added"),
      known: single.filter((item) => item.known).length + inZips("already"),
      refused: this.items.filter((item) => item.state === "refused").length,
    };
  }

  draw() {
    const total = this.items.reduce((sum, item) => sum + item.file.size, 0) || 1;
    const sent = this.items.reduce((sum, item) => sum + item.file.size * item.done, 0);
    const { added, known, refused } = this.counts();
    const { busy } = this;
    $("#upload-total").value = busy ? sent / total : 1;
    show($("#upload-total"), busy);
    const number = this.items.length;
    write($("#upload-title"), !busy ? "" : number ? `Adding ${plural(number, "file")}` : "Reading captions");
    const words = number || busy ? [`${added} added`] : [];
    if (known) words.push(`${known} already here`);
    if (refused) words.push(`${refused} not added`);
    if (this.captioned) words.push(`${plural(this.captioned, "caption")} added`);
    if (this.unusedFiles) words.push(`${plural(this.unusedFiles, "file")} not used`);
    write($("#upload-words"), words.length ? `${words.join(", ")}.` : "");
    write($("#upload-cancel"), busy ? "Cancel" : "Close");
    show($("#upload-retry"), !busy && this.items.some((item) => item.state === "refused" && !item.forGood));
  }
}
