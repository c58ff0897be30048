// Above the photos: what is shown, in which order, how large, as trained or whole, as a grid or as captions; the tabs.
// What is chosen here is kept by the browser, for each project.

import { $, $$, show } from "../lib/dom.js";
import { showCaptions } from "./caption_list.js";
import { arrange, shown } from "./order.js";
import { room } from "./state.js";

const KEY = `room ${room.project}`;
const SIZE = matchMedia("(max-width: 44rem)").matches ? "104" : "176"; // px high; three photos beside each other on a phone
const view = { size: SIZE, whole: false, captions: false, tab: "photos" };
const grid = $("#grid");

function remember() {
  localStorage.setItem(KEY, JSON.stringify({ ...view, tab: undefined, sort: shown.sort, filter: shown.filter }));
}

function recall() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    const known = (field, value) => [...$(field).options].some((option) => option.value === value);
    if (known("#sort", kept.sort)) shown.sort = kept.sort;
    if (known("#filter", kept.filter)) shown.filter = kept.filter;
    Object.assign(view, { size: kept.size ?? view.size, whole: kept.whole === true, captions: kept.captions === true });
  } catch {
    localStorage.removeItem(KEY); // of another version
  }
  if (location.hash === "#runs") view.tab = "runs";
  if (location.hash === "#captions") view.captions = true;
}

function press(buttons, is) {
  for (const button of buttons) button.setAttribute("aria-pressed", String(is(button)));
}

function draw() {
  $("#sort").value = shown.sort;
  $("#filter").value = shown.filter;
  $("#size").value = view.size;
  grid.style.setProperty("--size", `${view.size}px`);
  grid.classList.toggle("whole", view.whole);
  press($$("[data-whole]"), (button) => (button.dataset.whole === "yes") === view.whole);
  const captions = view.captions && room.photos.size > 0;
  press($$("[data-view]"), (button) => (button.dataset.view === "captions") === captions);
  $("#room").classList.toggle("reading", captions);
  for (const part of $$("[data-only]")) show(part, part.dataset.only === (captions ? "captions" : "grid"));
  for (const tab of $$("[role=tab]")) {
    const on = tab.dataset.tab === view.tab;
    tab.setAttribute("aria-selected", String(on));
    tab.tabIndex = on ? 0 : -1;
    show($(`#${tab.getAttribute("aria-controls")}`), on);
  }
}

export function setFilter(name) {
  shown.filter = name;
  arrange();
  draw();
  remember();
}

function setView(captions) {
  view.captions = captions;
  draw();
  showCaptions(captions);
  remember();
}

function setTab(name) {
  view.tab = name;
  draw();
  history.replaceState(null, "", name === "runs" ? "#runs" : location.pathname);
}

export function startToolbar() {
  recall();
  draw();
  room.on("photos gone", draw);
  $("#sort").addEventListener("change", (event) => { shown.sort = event.target.value; arrange(); remember(); });
  $("#filter").addEventListener("change", (event) => setFilter(event.target.value));
  $("#none-shown button").addEventListener("click", () => setFilter("all"));
  $("#size").addEventListener("input", (event) => {
    view.size = event.target.value;
    grid.style.setProperty("--size", `${view.size}px`);
    room.emit("layout");
  });
  $("#size").addEventListener("change", remember);
  for (const button of $$("[data-whole]")) button.addEventListener("click", () => { view.whole = button.dataset.whole === "yes"; draw(); room.emit("layout"); remember(); });
  for (const button of $$("[data-view]")) button.addEventListener("click", () => setView(button.dataset.view === "captions"));
  const tabs = $$("[role=tab]");
  for (const tab of tabs) tab.addEventListener("click", () => setTab(tab.dataset.tab));
  $("[role=tablist]").addEventListener("keydown", (event) => {
    if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
    const other = tabs.find((tab) => tab.tabIndex === -1);
    setTab(other.dataset.tab);
    other.focus();
  });
}

export const startViews = () => showCaptions(view.captions);
