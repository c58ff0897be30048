// Files that the user brings: chosen, dropped anywhere on the page, folders included, or pasted.

const NOISE = /^(\.|thumbs\.db$|desktop\.ini$|__macosx$)/i;
const paths = new WeakMap(); // a dropped file -> its path from the drop on

export const PHOTO = /\.(jpe?g|jfif|png|webp|avif|tiff?|bmp|gif|hei[cf])$/i;
export const isZip = (file) => /\.zip$/i.test(file.name);
export const isNoise = (file) => NOISE.test(file.name);
export const pathOf = (file) => paths.get(file) ?? (file.webkitRelativePath || file.name);
export const looksLikePhoto = (file) => PHOTO.test(file.name) || !file.type || file.type.startsWith("image/");

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

let taker = null; // what this page does with files; without one they go to the page that takes them

const hasFiles = (event) => event.dataTransfer?.types.includes("Files");

// The browser would open a dropped file and leave the page: on every page it is taken instead.
let depth = 0; // dragenter and dragleave come once for every element on the way
function dragging(on) {
  depth = on ? depth : 0;
  document.body.classList.toggle("dropping", on);
}
addEventListener("dragenter", (event) => { if (hasFiles(event)) { depth += 1; dragging(true); } });
addEventListener("dragleave", (event) => { if (hasFiles(event) && (depth -= 1) <= 0) dragging(false); });
addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
addEventListener("drop", async (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  dragging(false);
  const files = await filesOf(event.dataTransfer);
  if (event.target.closest?.("[data-takes-files]")) return; // a field of its own
  (taker ?? elsewhere)(files);
});

// To the page's project, or to the home page, where they begin a new one.
async function elsewhere(files) {
  const [{ page, toast }, { carry }] = await Promise.all([import("./dom.js"), import("./carried_files.js")]);
  try {
    await carry(files.map((file) => ({ file, path: pathOf(file) })));
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
    toast("These files are too large to be taken along. Drop them on the home page, or on a project.");
    return;
  }
  location.assign(page.dataset.project ? `/projects/${page.dataset.project}` : "/");
}
addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files ?? [])];
  if (!files.length || !taker) return;
  event.preventDefault();
  taker(files);
});

// Those that were dropped on the page before.
async function takeCarried(take) {
  const items = await (await import("./carried_files.js")).carried();
  for (const { file, path } of items) paths.set(file, path);
  if (items.length) take(items.map(({ file }) => file));
}

// From now on `take(files)` gets what is dropped, pasted, or chosen with one of `inputs`.
export function takeFiles(take, inputs) {
  taker = take;
  for (const input of inputs) {
    const chosen = () => { const files = [...input.files]; input.value = ""; take(files); };
    input.addEventListener("change", chosen);
    if (input.files.length) chosen(); // chosen before this script was loaded
  }
  takeCarried(take);
}
