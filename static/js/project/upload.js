// Uploads of many files: three in parallel, each with its progress, its retry and its own error.

import { ApiError, LOST, all, api, put } from "../lib/api.js";
import { $, copy, show, toast, write } from "../lib/dom.js";
import { fileSize, plural } from "../lib/format.js";
import { onBack } from "../lib/server.js";
import { CaptionFiles, comparable, fitsName, isCaptionFile, isMetadata, listed } from "./caption_files.js";

const AT_ONCE = 3;
const PHOTO = /\.(jpe?g|jfif|png|webp|avif|tiff?|bmp|gif|hei[cf])$/i;
const NOISE = /^(\.|thumbs\.db$|desktop\.ini$|__macosx$)/i;
const NUMBERED = / \((?:[2-9]|\d{2,})\)(?=\.[^.]*$)/; // what the studio adds to a name that is taken
const paths = new WeakMap(); // a dropped file -> its path from the drop on
const pathOf = (file) => paths.get(file) ?? (file.webkitRelativePath || file.name);
const folderOf = (path) => comparable(path).split("/").slice(0, -1).join("/");

// Every dropped file, those inside folders included.
export async function filesOf(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files];
  const found = [];
  const walk = async (entry) => {
    if (NOISE.test(entry.name)) return;
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      paths.set(file, entry.fullPath.replace(/^\//, ""));
      found.push(file);
      return;
    }
    const reader = entry.createReader();
    for (;;) { // a reader returns a folder in portions
      const portion = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!portion.length) return;
      for (const each of portion) await walk(each);
    }
  };
  for (const entry of entries) await walk(entry);
  return found;
}

export class Uploads {
  // `onPhoto(photo, isNew)` is called as each photo arrives.
  constructor(projectId, onPhoto) {
    this.projectId = projectId;
    this.onPhoto = onPhoto;
    this.arrived = new Map(); // id of a photo -> its path, as long as the page is open
    this.box = $("#uploading");
    this.list = $("#upload-list");
    this.clear();
    $("#upload-retry").addEventListener("click", () => this.retry());
    onBack(() => this.retry((item) => item.lost));
    $("#upload-cancel").addEventListener("click", () => this.cancelOrClose());
  }

  async add(files) {
    const wanted = files.filter((file) => !NOISE.test(file.name));
    if (!wanted.length) return;
    if (!this.busy) this.clear();
    const [captions, photos] = [[], []];
    for (const file of wanted) (isCaptionFile(file.name) || isMetadata(file.name) ? captions : photos).push(file);
    for (const file of photos) {
      const line = copy("upload-template");
      $(".name", line).textContent = file.name;
      write($(".state", line), fileSize(file.size));
      $("progress", line).setAttribute("aria-label", `Upload of ${file.name}`);
      this.list.append(line);
      const item = { file, line, state: "waiting", done: 0, upload: null };
      this.items.push(item);
      if (!PHOTO.test(file.name) && file.type && !file.type.startsWith("image/")) {
        this.refuse(item, new ApiError(0, { message: `${file.name} is not a photo. JPEG, PNG, WebP, AVIF, TIFF and HEIC can be used.` }), true);
      }
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

  next() {
    const free = AT_ONCE - this.items.filter((item) => item.state === "sending").length;
    for (const item of this.items.filter((one) => one.state === "waiting").slice(0, free)) this.send(item);
  }

  async send(item) {
    item.state = "sending";
    item.line.dataset.state = "sending";
    const path = `/projects/${this.projectId}/photos/${encodeURIComponent(item.file.name)}`;
    item.upload = put(path, item.file, (fraction) => {
      item.done = fraction;
      $("progress", item.line).value = fraction;
      write($(".state", item.line), fraction < 1 ? `${Math.round(fraction * 100)}%` : "reading …");
      this.draw();
    });
    try {
      const { status, data } = await item.upload.promise;
      this.arrived.set(data.id, pathOf(item.file));
      this.onPhoto(data, status === 201);
      await this.caption(data, this.captions.take(pathOf(item.file)));
      item.state = "done";
      item.done = 1;
      if (status === 200) this.same(item);
      else item.line.remove();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.refuse(item, error);
    }
    this.next();
    this.draw();
    await this.end();
  }

  // Write a photo's caption: `found` is {path, text} or {path, problem} of its caption file, or null.
  async caption(photo, found) {
    if (!found) return;
    if (found.problem) {
      this.report(found.path, found.problem);
      return;
    }
    try {
      this.onPhoto(await api("PATCH", `/photos/${photo.id}`, { caption: found.text }), false);
      this.captioned += 1;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.report(found.path, error.problems[0]?.message ?? error.message);
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
        if (fits.length === 1) await this.caption(fits[0], { ...one, path: one.metadata ?? one.path });
        else if (fits.length) this.report(one.metadata ?? one.path, `fits ${listed(fits.map((photo) => photo.name))}; add it together with its photo`);
        else if (one.metadata) strangers.push(one);
        else this.report(one.path, "is a caption without a photo of that name");
      }
      if (strangers.length) this.report(strangers[0].metadata, `names ${plural(strangers.length, "file")} not among the photos: ${listed(strangers.map((one) => one.path))}`);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      for (const one of rest) this.report(one.path, error.message);
    }
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

  // A line about a caption file that is not used.
  report(path, message) {
    const line = copy("upload-template");
    $(".name", line).textContent = path;
    line.dataset.state = "refused";
    write($(".state", line), "not used");
    $("progress", line).remove();
    show($(".problem", line));
    $(".problem", line).textContent = `${path.split("/").at(-1)} ${message}.`;
    this.list.append(line);
    this.unusedFiles += 1;
    show(this.box);
  }

  same(item) {
    item.known = true;
    item.line.dataset.state = "done";
    write($(".state", item.line), "already here");
    $("progress", item.line).remove();
  }

  refuse(item, error, forGood = false) {
    item.state = "refused";
    item.lost = error.code === LOST.code;
    item.forGood = forGood || (error.status >= 400 && error.status < 500);
    item.done = 1;
    item.line.dataset.state = "refused";
    write($(".state", item.line), "not added");
    show($("progress", item.line), false);
    const problem = $(".problem", item.line);
    show(problem);
    problem.textContent = error.message;
  }

  retry(which = (item) => !item.forGood) {
    for (const item of this.items.filter((one) => one.state === "refused" && which(one))) {
      item.state = "waiting";
      item.done = 0;
      delete item.line.dataset.state;
      show($(".problem", item.line), false);
      show($("progress", item.line));
      $("progress", item.line).value = 0;
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
    this.captioned = 0; // photos that got a caption from a file
    this.unusedFiles = 0;
    this.reading = 0; // steps of work on caption files that go on
    this.list.replaceChildren();
  }

  draw() {
    const total = this.items.reduce((sum, item) => sum + item.file.size, 0) || 1;
    const sent = this.items.reduce((sum, item) => sum + item.file.size * item.done, 0);
    const done = this.items.filter((item) => item.state === "done");
    const known = done.filter((item) => item.known).length;
    const refused = this.items.filter((item) => item.state === "refused").length;
    const busy = this.busy;
    $("#upload-total").value = busy ? sent / total : 1;
    const number = this.items.length;
    write($("#upload-title"), !busy ? "Upload finished" : number ? `Uploading ${plural(number, "photo")}` : "Reading captions");
    const words = number ? [`${done.length - known} of ${number} added`] : [];
    if (known) words.push(`${known} already here`);
    if (refused) words.push(`${refused} not added`);
    if (this.captioned) words.push(`${plural(this.captioned, "caption")} added`);
    if (this.unusedFiles) words.push(`${plural(this.unusedFiles, "caption file")} not used`);
    write($("#upload-words"), words.length ? `${words.join(", ")}.` : "");
    write($("#upload-cancel"), busy ? "Cancel" : "Close");
    show($("#upload-retry"), !busy && this.items.some((item) => item.state === "refused" && !item.forGood));
    if (!busy && !this.list.children.length) show(this.box, false);
  }
}

// Files come from two buttons, a drop anywhere on the page, or a paste.
export function listenForFiles(uploads, drop) {
  for (const input of [$("#choose-files"), $("#choose-folder")]) {
    const take = () => { const files = [...input.files]; input.value = ""; uploads.add(files); };
    input.addEventListener("change", take);
    if (input.files.length) take(); // chosen before this script was loaded
  }
  let depth = 0;
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragenter", (event) => { if (hasFiles(event)) { depth += 1; drop.classList.add("over"); } });
  addEventListener("dragleave", (event) => { if (hasFiles(event) && (depth -= 1) <= 0) drop.classList.remove("over"); });
  addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
  addEventListener("drop", async (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    depth = 0;
    drop.classList.remove("over");
    uploads.add(await filesOf(event.dataTransfer));
  });
  addEventListener("paste", (event) => {
    const files = [...event.clipboardData.files];
    if (files.length) { event.preventDefault(); uploads.add(files); }
  });
}
