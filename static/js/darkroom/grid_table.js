// A grid as a table: the last axis in columns, the one before it in rows, the first of three as groups of rows. It fills in while
// its job draws. Arrow keys walk the cells; a cell opens on the whole screen, where the arrow keys walk on.

import { ApiError, api } from "../lib/api.js";
import { $, $$, icon, show, throttled, toast, write } from "../lib/dom.js";
import { onSubmit } from "../lib/forms.js";
import { wording } from "../lib/wording.js";
import { room } from "./state.js";
import { element } from "./tiles.js";
import { openViewer } from "./viewer.js";

const section = $("#grid");
const table = $("#grid-table");
const GOING = ["queued", "running"];
let grid = null; // as the server gives it

const nameOfAdapter = (id) => [...$("#adapter").options].find((option) => option.value === String(id))?.textContent ?? `adapter ${id}`;

function wordsOf(axis, value) {
  if (axis === "checkpoint") return `Step ${value}`;
  if (axis === "adapter") return nameOfAdapter(value);
  return axis === "seed" ? `Seed ${value}` : String(value);
}

// ---- the table ----

// {each, rows, columns}: [axis, values], null where there is no such axis.
function layout() {
  const axes = Object.entries(grid.axes);
  const columns = axes.at(-1);
  return { columns, rows: axes.at(-2) ?? null, each: axes.length > 2 ? axes[0] : null };
}

function heading(scope, axis, value, starred) {
  const cell = element("th", scope === "row" && axis === "prompt" ? "long" : "", axis ? wordsOf(axis, value) : "");
  cell.scope = scope;
  if (starred && axis === "checkpoint") cell.append(icon("star", "full"));
  return cell;
}

function starredAt(axis, value) {
  return axis === "checkpoint" && grid.pictures.some((each) => each.checkpoint === value && each.starred);
}

function waitsFor(each) {
  if (each.problem) return each.problem;
  if (!GOING.includes(grid.state)) return "not drawn";
  return grid.state === "running" && each.number === nextNumber() ? "is drawn" : "waits";
}

const nextNumber = () => grid.pictures.find(({ id, problem }) => !id && !problem)?.number;

function fill(cell, each) {
  const key = each.id ? `picture ${each.id}` : waitsFor(each);
  if (cell.dataset.key === key) return;
  cell.dataset.key = key;
  if (!each.id) {
    cell.replaceChildren(element("span", "cell waits small", key));
    return;
  }
  const press = element("button", "cell");
  Object.assign(press, { type: "button", tabIndex: -1 });
  press.dataset.cell = each.id;
  press.setAttribute("aria-label", Object.entries(grid.axes).map(([axis]) => wordsOf(axis, each[axis])).join(", "));
  const image = element("img", "");
  Object.assign(image, { src: `/api/pictures/${each.id}/thumb`, alt: "", loading: "lazy", width: each.width, height: each.height });
  press.append(image);
  cell.replaceChildren(press);
}

function build() {
  const { columns: [axis, values], rows, each } = layout();
  const head = element("thead", "");
  const line = element("tr", "");
  line.append(rows ? element("td", "corner", `${rows[0]} by ${axis}`) : element("td", "corner", axis), ...values.map((value) => heading("col", axis, value, starredAt(axis, value))));
  head.append(line);
  const parts = [head];
  for (const value of each ? each[1] : [null]) {
    const body = element("tbody", "");
    if (each) {
      const group = element("tr", "");
      const name = heading("rowgroup", each[0], value, starredAt(each[0], value));
      name.colSpan = values.length + 1;
      group.append(name);
      body.append(group);
    }
    for (const row of rows ? rows[1] : [null]) {
      const made = element("tr", "");
      made.dataset.cells = "";
      made.append(heading("row", rows?.[0], row, rows && starredAt(rows[0], row)), ...values.map(() => element("td", "")));
      body.append(made);
    }
    parts.push(body);
  }
  table.replaceChildren(...parts);
  table.style.setProperty("--columns", values.length);
}

function draw() {
  const key = JSON.stringify([grid.id, grid.axes, grid.pictures.map(({ starred }) => starred)]);
  if (table.dataset.key !== key) build();
  table.dataset.key = key;
  const focused = document.activeElement.dataset?.cell;
  const cells = $$("[data-cells] td", table);
  grid.pictures.forEach((each, at) => fill(cells[at], each));
  const drawn = grid.pictures.filter(({ id }) => id).length;
  const { prompt, seed, strength } = grid.pictures[0];
  const fixed = [["prompt", `“${prompt}”`], ["seed", `seed ${seed}`], ["strength", `strength ${strength}`]].filter(([axis]) => !(axis in grid.axes)).map(([, words]) => words);
  write($("#grid-title"), Object.keys(grid.axes).reverse().join(" by "));
  write($("#grid-words"), [stateWords(drawn), ...fixed].join(" · "));
  write($("#grid-trouble"), grid.error?.message ?? "");
  show($("#grid-stop"), GOING.includes(grid.state));
  show($("#grid-sheet"), drawn > 0);
  Object.assign($("#grid-sheet"), { href: `/api/grids/${grid.id}/sheet` });
  const first = $(`[data-cell="${focused}"]`, table) ?? $("[data-cell]", table);
  for (const other of $$("[data-cell]", table)) other.tabIndex = other === first ? 0 : -1;
  if (focused) first?.focus({ preventScroll: true });
}

function stateWords(drawn) {
  const count = `${drawn} of ${grid.pictures.length}`;
  if (grid.state === "queued") return drawn ? `${count} drawn; a run goes first` : wording.queued;
  if (grid.state === "running") return `drawing, ${count}`;
  return drawn === grid.pictures.length ? `${drawn} pictures` : `${wording.states[grid.state]}, ${count} drawn`;
}

// ---- what happens ----

async function fetchGrid(id) {
  try {
    const found = await api("GET", `/grids/${id}`);
    if (grid && grid.id !== id) return;
    grid = found;
    show(section);
    draw();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 404) close();
    else toast(error.message);
  }
}

const refresh = throttled(200, () => grid && fetchGrid(grid.id));

function close() {
  grid = null;
  show(section, false);
  setAddress(null);
}

// The grid that is open is in the address, so that a reload and a link show it.
function setAddress(id) {
  const address = new URL(location.href);
  if (id === null) address.searchParams.delete("grid");
  else address.searchParams.set("grid", id);
  history.replaceState(null, "", address);
}

export async function openGrid(id) {
  grid = null;
  await fetchGrid(id);
  if (!grid) return;
  setAddress(id);
  $("#grid-title").focus({ preventScroll: true });
  section.scrollIntoView({ block: "start", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
}

// An event of a job.
export function gridChanged(job) {
  if (grid?.job_id === job) refresh();
}

const order = () => grid?.pictures.map(({ id }) => id).filter((id) => id && room.pictures.has(id)) ?? [];
const focusCell = (id) => $(`[data-cell="${id}"]`, table)?.focus();

function onKey(event) {
  const id = Number(event.target.dataset?.cell);
  if (!id) return;
  const cells = $$("[data-cells] td", table);
  const at = cells.indexOf(event.target.closest("td"));
  const width = layout().columns[1].length;
  const way = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -width, ArrowDown: width }[event.key];
  if (!way) return;
  event.preventDefault();
  for (let next = at + way; next >= 0 && next < cells.length; next += way) {
    const press = $("[data-cell]", cells[next]);
    if (!press) continue;
    for (const other of $$("[data-cell]", table)) other.tabIndex = other === press ? 0 : -1;
    press.focus();
    return;
  }
}

export function startGrid() {
  table.addEventListener("keydown", onKey);
  table.addEventListener("click", async (event) => {
    const press = event.target.closest("[data-cell]");
    if (!press) return;
    const id = Number(press.dataset.cell);
    if (!room.pictures.has(id)) await room.refresh(grid.job_id);
    if (room.pictures.has(id)) openViewer(id, order, focusCell);
  });
  $("#grid-close").addEventListener("click", () => { close(); $("#history-title").focus(); });
  $("#grid-stop").addEventListener("click", async () => { await room.stop(grid.job_id); refresh(); });
  onSubmit($("#delete-grid form"), async () => {
    const { id } = grid;
    await api("DELETE", `/grids/${id}`);
    $("#delete-grid").close();
    close();
    toast("The pictures of the grid are in the trash.");
    await room.refreshAll();
  });
  room.on("drawings", () => grid && refresh());
  const asked = Number(new URL(location.href).searchParams.get("grid"));
  if (asked) openGrid(asked);
}
