// Which caption file belongs to which photo: the table at the top of core/dataset/caption_files.py, which decides.
// 1 A.txt   2 A.jpg.txt   3 A.caption   4 A.jpg.caption   5 metadata.jsonl {"file_name", "text"}, all by folder and name.
// tests/caption_files.json holds cases that this file and the Python module must pass.

const ENDINGS = [".txt", ".caption"];
const METADATA = "metadata.jsonl";
const withoutEnding = (path) => path.replace(/\.[^./]*$/, "");
const nameOf = (path) => path.split("/").at(-1);
const oneLine = (text) => text.trim().split(/\s+/).join(" ");
const byCodePoint = (a, b) => (a < b ? -1 : Number(a > b));

export const isCaptionFile = (name) => ENDINGS.some((ending) => name.toLowerCase().endsWith(ending));
export const isMetadata = (name) => name.toLowerCase() === METADATA;

export function comparable(path) {
  const parts = path.normalize("NFC").toLowerCase().replaceAll("\\", "/").split("/");
  return parts.filter((part) => part && part !== ".").join("/");
}

// The caption files of a photo in the order of the table. `byPath` holds their paths by comparable path.
function candidates(photo, byPath) {
  const [own, path] = [withoutEnding(photo), comparable(photo)];
  const names = ENDINGS.flatMap((ending) => [`${withoutEnding(path)}${ending}`, `${path}${ending}`]);
  const spelledAs = (file) => Number(!file.startsWith(own));
  return names.flatMap((name) => [...(byPath.get(name) ?? [])].sort((a, b) => spelledAs(a) - spelledAs(b) || byCodePoint(a, b)));
}

function grouped(paths) {
  const byPath = new Map();
  for (const path of paths) byPath.set(comparable(path), [...(byPath.get(comparable(path)) ?? []), path]);
  return byPath;
}

export function match(photos, files) {
  const byPath = grouped(files);
  return Object.fromEntries(photos.map((photo) => [photo, candidates(photo, byPath)]));
}

// Whether a caption file may belong to a photo of which the studio knows the name alone, and not the folder.
export function fitsName(file, photo) {
  const [name, target] = [comparable(nameOf(photo)), withoutEnding(comparable(nameOf(file)))];
  return target === name || target === withoutEnding(name);
}

async function textOf(file) {
  try {
    return { text: new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer()) };
  } catch (error) {
    const unreadable = error instanceof TypeError ? "is not UTF-8 text; save it again as plain UTF-8" : "cannot be read";
    return { text: "", problem: unreadable };
  }
}

// The caption files that came together with some photos. What cannot be used is in `problems`: {name, message}.
export class CaptionFiles {
  constructor() {
    this.files = new Map(); // path -> {path, text, problem, used}
    this.byPath = new Map();
    this.rows = new Map(); // of metadata: comparable path -> {path, text, used}
    this.problems = [];
  }

  async add(path, file) {
    const { text, problem } = await textOf(file);
    if (!isMetadata(file.name)) {
      this.files.set(path, { path, text: oneLine(text), problem, used: false });
      this.byPath = grouped(this.files.keys());
    } else if (problem) this.problems.push({ name: path, message: problem });
    else this.#addRows(path, text);
  }

  #addRows(path, text) {
    const folder = path.split("/").slice(0, -1);
    const wrong = [];
    for (const [index, line] of text.split("\n").entries()) {
      if (!line.trim()) continue;
      let row = null;
      try {
        row = JSON.parse(line);
      } catch {
        wrong.push(`line ${index + 1} is not JSON`);
        continue;
      }
      if (typeof row?.file_name !== "string" || typeof row?.text !== "string") wrong.push(`line ${index + 1} has no "file_name" and "text"`);
      else if (row.text.trim()) {
        const photo = [...folder, row.file_name].join("/");
        this.rows.set(comparable(photo), { path: photo, text: oneLine(row.text), used: false, metadata: path });
      }
    }
    if (wrong.length) this.problems.push({ name: path, message: listed(wrong, "; ") });
  }

  // What the photo at this path is captioned with: {path, text}, {path, problem}, or null. Uses its files up.
  take(photo) {
    const beside = candidates(photo, this.byPath).map((path) => this.files.get(path)).filter((one) => !one.used);
    for (const one of beside) one.used = true;
    const [first, ...others] = beside.filter((one) => one.text || one.problem);
    for (const { path } of others) this.problems.push({ name: path, message: `is not used: ${nameOf(photo)} has its caption from ${nameOf(first.path)}` });
    if (first) return first;
    const row = this.rows.get(comparable(photo));
    if (!row || row.used) return null;
    row.used = true;
    return { path: row.metadata, text: row.text };
  }

  // Caption files without a photo so far, but for those of the photos at `waiting`.
  unused(waiting) {
    const kept = new Set(waiting.flatMap((photo) => candidates(photo, this.byPath)));
    const rows = new Set(waiting.map(comparable));
    return [
      ...[...this.files.values()].filter((one) => !one.used && !kept.has(one.path)),
      ...[...this.rows].filter(([path, row]) => !row.used && !rows.has(path)).map(([, row]) => row),
    ];
  }
}

export const listed = (words, between = ", ") => words.slice(0, 3).join(between) + (words.length > 3 ? `${between}and ${words.length - 3} more` : "");
