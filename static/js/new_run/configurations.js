// Settings saved under a name: used as a layer under the user's own, saved, renamed, deleted, and as files.

import { api, put } from "../lib/api.js";
import { $, $$, show, toast, write } from "../lib/dom.js";
import { onPress, onSubmit } from "../lib/forms.js";
import { edits, fieldOf, form, request, setLayer } from "./fields.js";

const select = form.elements.configuration;
const error = $("#configuration-error");
const dialog = $("#name-settings");
const nameForm = $("#name-settings-form");
const saved = new Map(JSON.parse($("#configurations-data").textContent).map((one) => [one.id, one]));
let replace = async () => {}; // the form's: fill in other settings, with a way back
let renaming = null;
let used = ""; // the id of the one that is filled in

// The text of a value, as its field has it; app/wording.py writes it alike.
function asText(value) {
  if (typeof value === "boolean") return value ? "on" : "off";
  if (Array.isArray(value)) return value.map(String).join(value.every((one) => typeof one === "number") ? " " : "\n");
  return String(value);
}

// As numbers, switches and texts stay as typed: the server reads them as it reads the form.
const fromView = ({ id, name, settings, unknown }) => ({
  id: String(id), name,
  settings: Object.fromEntries(Object.entries(settings).map(([knob, value]) => [knob, asText(value)])),
  unknown: Object.fromEntries(Object.entries(unknown).map(([knob, value]) => [knob, asText(value)])),
});

// Use the one with this id; "" for none. Its values are those that a field can show. False where there is none of that id.
export function useConfiguration(id) {
  const one = saved.get(id);
  used = one ? id : "";
  select.value = used;
  const known = one ? Object.entries(one.settings).filter(([knob, value]) => takes(knob, value)) : [];
  setLayer("configuration", Object.fromEntries(known));
  const lost = one ? Object.entries({ ...one.unknown, ...Object.fromEntries(Object.entries(one.settings).filter(([knob, value]) => !takes(knob, value))) }) : [];
  show($("#unknown-settings"), lost.length > 0);
  if (lost.length) write($("#unknown-settings p"), `${one.name} also has ${lost.map(([knob, value]) => `${knob} = ${value}`).join(", ")}: there is no such setting or choice here, so it is left out.`);
  for (const part of $$("[data-of-saved]")) show(part, Boolean(one));
  if (!one) return false;
  for (const kind of ["json", "toml"]) $(`#download-${kind}`).href = `/api/configurations/${id}/file?format=${kind}`;
  return true;
}

function takes(knob, value) {
  const field = fieldOf(knob);
  const input = field && form.elements[knob];
  return Boolean(field) && (!input.options || [...input.options].some((option) => option.value === value));
}

function list() {
  const chosen = select.value;
  const options = [...saved.values()].sort((a, b) => a.name.localeCompare(b.name)).map((one) => new Option(one.name, one.id));
  select.replaceChildren(new Option("none", ""), ...options);
  select.value = saved.has(chosen) ? chosen : "";
}

function keep(view) {
  const one = fromView(view);
  saved.set(one.id, one);
  list();
  return one;
}

// What the presets are, and the adapter to begin with: they stay when other settings are filled in.
const presets = () => Object.fromEntries(Object.entries(edits()).filter(([name]) => ["goal", "time", "start_from"].includes(name)));

const use = (one, words) => replace({ ...presets(), configuration: one.id }, words);

select.addEventListener("change", () => {
  write(error, "");
  const one = saved.get(select.value);
  select.value = used; // until the other one is filled in, so that undo brings back what was there
  const { configuration: _, ...own } = edits();
  if (one) use(one, `${one.name} is filled in.`);
  else replace(own, "No saved settings are used any more.");
});

$("#save-settings").addEventListener("click", () => ask(null));
$("#rename-settings").addEventListener("click", () => ask(saved.get(select.value)));

function ask(one) {
  renaming = one;
  write($("#name-settings-title"), one ? `Rename “${one.name}”` : "Save these settings");
  nameForm.elements.name.value = one?.name ?? "";
  write($("#settings-name-error"), "");
  write($("[data-error]", nameForm), "");
  dialog.showModal();
  nameForm.elements.name.select();
}

onSubmit(nameForm, async () => {
  const name = nameForm.elements.name.value;
  if (renaming) {
    const one = keep(await api("PATCH", `/configurations/${renaming.id}`, { name }));
    useConfiguration(one.id);
    dialog.close();
    toast(`Now called ${one.name}.`);
    return;
  }
  const one = keep(await api("POST", "/configurations", { name, settings: request() }));
  dialog.close();
  adopt(one);
  toast(`Saved as ${one.name}.`);
});

// What was saved is what the form has, so nothing is changed any more.
const adopt = (one) => replace({ ...presets(), configuration: one.id }, null);

onPress($("#update-settings"), async () => {
  const [before, was] = [saved.get(used), edits()];
  const one = keep(await api("PATCH", `/configurations/${used}`, { settings: request() }));
  adopt(one);
  takeBack(`${one.name} has these settings now.`, async () => {
    keep(await api("PATCH", `/configurations/${one.id}`, { settings: before.settings }));
    replace(was, null);
  });
}, error);

onPress($("#delete-settings"), async () => {
  const [one, was] = [saved.get(used), edits()];
  await api("DELETE", `/configurations/${one.id}`);
  const values = { ...presets(), ...request() };
  saved.delete(one.id);
  list();
  replace(values, null); // the form keeps its values: they are the user's now
  takeBack(`${one.name} is deleted. The form keeps its settings.`, async () => {
    const back = keep(await api("POST", "/configurations", { name: one.name, settings: one.settings }));
    replace({ ...was, configuration: back.id }, null);
  });
}, error);

async function takeBack(words, undo) {
  if (!(await toast(words, { undo: "Undo", seconds: 10 }))) return;
  try {
    await undo();
  } catch (problem) {
    showProblem(problem);
  }
}

function showProblem(problem) {
  if (!("problems" in problem)) throw problem;
  write(error, [problem.message, ...problem.problems.map((one) => `${one.field === "file" ? "" : `${one.field} `}${one.message}.`)].join(" "));
}

$("#import-settings").addEventListener("click", () => $("#settings-file").click());
$("#settings-file").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  event.target.value = "";
  if (!file) return;
  write(error, "");
  try {
    const { data } = await put(`/configurations/${encodeURIComponent(file.name)}`, file, () => {}).promise;
    await use(keep(data), `${data.name} is saved, and filled in.`);
  } catch (problem) {
    showProblem(problem);
  }
});

// `how(wanted, words)` fills in the form; with words there is a way back.
export function onReplace(how) { replace = how; }

// The id of the one with this name; "" for none.
export const idOf = (name) => [...saved.values()].find((one) => one.name === name)?.id ?? "";
