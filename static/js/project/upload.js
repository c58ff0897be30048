// Uploads of many files: three in parallel, each with its progress, its retry and its own error.

import { ApiError, api, put } from "../lib/api.js";
import { $, copy, show, write } from "../lib/dom.js";
import { fileSize, plural } from "../lib/format.js";

const AT_ONCE = 3;
const PHOTO = /\.(jpe?g|jfif|png|webp|avif|tiff?|bmp|gif|hei[cf])$/i;
const NOISE = /^(\.|thumbs\.db$|desktop\.ini$|__macosx$)/i;
const stem = (name) => name.replace(/\.[^.]*$/, "").normalize("NFC").toLowerCase();

// Every dropped file, those inside folders included.
export async function filesOf(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files];
  const found = [];
  const walk = async (entry) => {
    if (NOISE.test(entry.name)) return;
    if (entry.isFile) {
      found.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
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
    this.items = [];
    this.captions = new Map(); // stem of a .txt -> its text
    this.box = $("#uploading");
    this.list = $("#upload-list");
    $("#upload-retry").addEventListener("click", () => this.retry());
    $("#upload-cancel").addEventListener("click", () => this.cancelOrClose());
  }

  async add(files) {
    const wanted = files.filter((file) => !NOISE.test(file.name));
    if (!wanted.length) return;
    if (!this.busy) this.clear();
    for (const file of wanted.filter((one) => /\.txt$/i.test(one.name))) {
      this.captions.set(stem(file.name), (await file.text()).trim());
    }
    const photos = wanted.filter((one) => !/\.txt$/i.test(one.name));
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
    this.next();
    this.draw();
  }

  get busy() {
    return this.items.some((item) => item.state === "waiting" || item.state === "sending");
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
      const caption = this.captions.get(stem(item.file.name));
      const photo = caption ? await api("PATCH", `/photos/${data.id}`, { caption }) : data;
      item.state = "done";
      item.done = 1;
      this.onPhoto({ ...data, ...photo }, status === 201);
      if (status === 200) this.same(item);
      else item.line.remove();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.refuse(item, error);
    }
    this.next();
    this.draw();
  }

  same(item) {
    item.known = true;
    item.line.dataset.state = "done";
    write($(".state", item.line), "already here");
    $("progress", item.line).remove();
  }

  refuse(item, error, forGood = false) {
    item.state = "refused";
    item.forGood = forGood || (error.status >= 400 && error.status < 500);
    item.done = 1;
    item.line.dataset.state = "refused";
    write($(".state", item.line), "not added");
    show($("progress", item.line), false);
    const problem = $(".problem", item.line);
    show(problem);
    problem.textContent = error.message;
  }

  retry() {
    for (const item of this.items.filter((one) => one.state === "refused" && !one.forGood)) {
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
    this.captions.clear();
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
    write($("#upload-title"), busy ? `Uploading ${plural(this.items.length, "photo")}` : "Upload finished");
    const words = [`${done.length - known} of ${this.items.length} added`];
    if (known) words.push(`${known} already here`);
    if (refused) words.push(`${refused} not added`);
    write($("#upload-words"), `${words.join(", ")}.`);
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
