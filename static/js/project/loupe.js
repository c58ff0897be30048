// One photo, large. Its tools (look, crop, mask) are modules of their own; each is told when it begins and ends.

import { $, $$, icon, show, write } from "../lib/dom.js";
import { cropTool } from "./crop_tool.js";
import { focusTile } from "./grid.js";
import { maskTool } from "./mask_tool.js";
import { drawPanel, leavePanel } from "./panel.js";
import { attempt, editWithUndo, room } from "./state.js";
import { view } from "./viewer.js";

const dialog = $("#loupe");
const image = $("#loupe-image");
const NEAR = 25; // photos of the film strip on either side
const TOOLS = { look: { begin() {}, end() {}, key: () => false }, crop: cropTool, mask: maskTool };
let tool = "look";
let id = null;
let sequence = []; // ids, as the grid had them when the loupe was opened

export const isOpen = () => dialog.open;
const photo = () => room.photos.get(id);

// ---- drawing ----

function drawImage() {
  const one = photo();
  image.onerror = () => { image.onerror = null; image.src = one.thumb_url; }; // a kind that the browser cannot show
  image.src = one.file_url ?? `/api/photos/${id}/file`;
  image.alt = one.caption || one.name;
  view.load(one.width, one.height);
  for (const step of [1, -1]) {
    const near = room.photos.get(sequence[sequence.indexOf(id) + step]);
    if (near?.file_url) new Image().src = near.file_url;
  }
}

function drawHead() {
  const at = sequence.indexOf(id);
  write($("#loupe-name"), photo().name);
  write($("#loupe-place"), `${at + 1} of ${sequence.length}`);
  write($("#loupe-aside"), photo().aside ? "Take back" : "Set aside");
  dialog.classList.toggle("is-aside", photo().aside);
  $("[data-loupe=before]").disabled = at <= 0;
  $("[data-loupe=after]").disabled = at >= sequence.length - 1;
}

function drawFilm() {
  const at = sequence.indexOf(id);
  const near = sequence.slice(Math.max(0, at - NEAR), at + NEAR + 1);
  $("#film").replaceChildren(...near.map((each) => {
    const one = room.photos.get(each);
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.film = each;
    button.setAttribute("aria-label", one.name);
    if (each === id) button.setAttribute("aria-current", "true");
    const thumb = new Image();
    thumb.src = one.thumb_url;
    thumb.alt = "";
    thumb.loading = "lazy";
    button.append(thumb);
    if (one.aside) button.append(icon("aside"));
    item.append(button);
    return item;
  }));
  const strip = $("#film");
  const now = $("[aria-current]", strip);
  strip.scrollLeft = now.offsetLeft - (strip.clientWidth - now.offsetWidth) / 2;
}

function setTool(name) {
  TOOLS[tool].end();
  tool = name;
  for (const button of $$("[data-tool]", dialog)) button.setAttribute("aria-pressed", String(button.dataset.tool === name));
  for (const part of $$("[data-for]", dialog)) show(part, part.dataset.for === name);
  dialog.dataset.tool = name;
  TOOLS[tool].begin(photo());
}

// ---- moving ----

function turnTo(other) {
  if (!room.photos.has(other)) return;
  TOOLS[tool].end();
  leavePanel();
  id = other;
  room.focus(id);
  history.replaceState({ photo: id }, "", `#photo-${id}`);
  drawImage();
  drawHead();
  drawFilm();
  drawPanel(photo());
  TOOLS[tool].begin(photo());
}

const step = (by) => { const next = sequence[sequence.indexOf(id) + by]; if (next) turnTo(next); };

export function openLoupe(which, name = "look") {
  if (!room.photos.has(which)) return;
  sequence = room.order.includes(which) ? [...room.order] : [...room.photos.keys()];
  id = which;
  if (!dialog.open) {
    history.pushState({ photo: id }, "", `#photo-${id}`);
    dialog.append($("#toasts")); // what lies outside of a modal dialog cannot be pressed
    dialog.showModal();
  }
  turnTo(which);
  setTool(name);
}

function onClosed() {
  TOOLS[tool].end();
  leavePanel();
  document.body.append($("#toasts"));
  image.removeAttribute("src");
  if (history.state?.photo) history.back();
  focusTile(id);
  id = null;
}

async function remove() {
  const at = sequence.indexOf(id);
  const gone = id;
  const next = sequence[at + 1] ?? sequence[at - 1];
  sequence = sequence.filter((each) => each !== gone);
  if (next) turnTo(next);
  else dialog.close();
  await editWithUndo([gone], { deleted: true });
}

const setAside = () => editWithUndo([id], { aside: !photo().aside });

// ---- what the user does ----

const PRESSES = {
  close: () => dialog.close(),
  fit: () => view.fit(),
  full: () => view.full(),
  before: () => step(-1),
  after: () => step(1),
  aside: setAside,
  delete: remove,
};

function onKey(event) {
  const field = event.target.closest("textarea, select, input");
  if (event.target.closest("textarea") && event.key === "Escape") {
    event.preventDefault(); // leaves the field, not the loupe
    event.target.blur();
    $("#loupe [data-loupe=close]").focus();
    return;
  }
  if (field && !(field.type === "range" && event.key.length === 1)) return;
  if (event.ctrlKey || event.metaKey) return;
  if (TOOLS[tool].key(event)) { event.preventDefault(); return; }
  const onButton = event.target.closest("button") && (event.key === " " || event.key === "Enter");
  const keys = {
    ArrowLeft: () => step(-1), ArrowRight: () => step(1), x: setAside, z: () => view.toggle(),
    v: () => setTool("look"), c: () => setTool("crop"), m: () => setTool("mask"),
    Delete: remove, Enter: () => $("#loupe-caption").focus(), " ": () => dialog.close(),
  };
  const act = keys[event.key] ?? keys[event.key.toLowerCase()];
  if (!act || onButton) return;
  event.preventDefault();
  act();
}

export function startLoupe() {
  dialog.addEventListener("click", (event) => {
    const press = event.target.closest("button"); // the dialog has data-tool too
    if (!press) return;
    if (press.dataset.loupe) PRESSES[press.dataset.loupe]();
    else if (press.dataset.tool) setTool(press.dataset.tool);
    else if (press.dataset.film) turnTo(Number(press.dataset.film));
  });
  addEventListener("keydown", (event) => {
    const here = dialog.contains(event.target) || event.target === document.body; // where the focus falls from what is hidden
    if (dialog.open && here && !$("dialog[open]:not(#loupe)")) onKey(event);
  });
  dialog.addEventListener("close", onClosed);
  addEventListener("popstate", () => { if (dialog.open && !location.hash.startsWith("#photo-")) dialog.close(); });
  view.onScale((full) => {
    $("[data-loupe=fit]").setAttribute("aria-pressed", String(!full));
    $("[data-loupe=full]").setAttribute("aria-pressed", String(full));
  });
  room.on("photos", (ids) => {
    if (!dialog.open || !ids.includes(id)) return;
    drawHead();
    drawPanel(photo());
    TOOLS[tool].refresh?.(photo());
  });
  room.on("gone", (ids) => {
    sequence = sequence.filter((each) => !ids.includes(each));
    if (dialog.open && ids.includes(id)) dialog.close();
  });
  room.on("review", () => dialog.open && drawPanel(photo()));
  const [, number, wanted] = location.hash.match(/^#photo-(\d+)(?:-(crop|mask))?$/) ?? [];
  const asked = Number(number);
  if (asked && room.photos.has(asked)) {
    history.replaceState(null, "", location.pathname);
    attempt(async () => openLoupe(asked, wanted));
  }
}
