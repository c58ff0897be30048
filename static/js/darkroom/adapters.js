// Adapters from elsewhere: importing a file, renaming and deleting it.

import { ApiError, api, put } from "../lib/api.js";
import { $, show, toast, write } from "../lib/dom.js";
import { onSubmit, textsOf } from "../lib/forms.js";
import { followAdapter } from "./ask.js";
import * as rows from "./rows.js";
import { data } from "./state.js";

const select = rows.selectOf(rows.rows()[0]);
const chosen = () => select.selectedOptions[0];

function refuse(words) {
  show($("#import-words"), false);
  write($("#import-error"), words);
}

export async function importFiles(files) {
  const configs = files.filter((one) => one.name.toLowerCase().endsWith(".json"));
  const [file, ...more] = files.filter((one) => !configs.includes(one));
  write($("#import-error"), "");
  if (!file || more.length || configs.length > 1) {
    refuse("Choose one .safetensors file, and with it the adapter_config.json that came with it, if there is one.");
    return;
  }
  const words = $("#import-words");
  show(words);
  try {
    const query = configs.length ? `?config_bytes=${configs[0].size}` : "";
    const { data: adapter } = await put(`/adapters/${encodeURIComponent(file.name)}${query}`, new Blob([file, ...configs]), (fraction) => write(words, `Reading ${file.name}, ${Math.round(fraction * 100)}%`)).promise;
    const option = new Option(`${adapter.name} (imported)`, adapter.id);
    Object.assign(option.dataset, { model: adapter.model, trigger: adapter.trigger, classWord: adapter.class_word, imported: adapter.name });
    data.trained[adapter.id] = adapter.model;
    rows.offer(option);
    show($("#no-adapters"), false);
    select.value = String(adapter.id);
    followAdapter();
    write(words, [`${adapter.name} is here: rank ${adapter.rank}, for ${adapter.model}.`, ...adapter.warnings.map((text) => `It ${text}`)].join(" "));
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    refuse([error.message, ...error.problems.slice(0, 3).map((one) => `${one.field} ${one.message}.`)].join(" "));
  }
}

function listenToNames() {
  $("#rename-adapter").addEventListener("opened", () => {
    const name = $("#adapter-name");
    name.value = chosen().dataset.imported;
    name.select();
  });
  onSubmit($("#rename-adapter-form"), async (form) => {
    const { name } = await api("PATCH", `/adapters/${select.value}`, textsOf(form));
    chosen().dataset.imported = name;
    chosen().textContent = `${name} (imported)`;
    $("#rename-adapter").close();
  });
  $("#delete-adapter").addEventListener("opened", () => write($("#adapter-to-delete"), chosen().dataset.imported));
  onSubmit($("#delete-adapter form"), async () => {
    const { value } = select;
    await api("DELETE", `/adapters/${value}`);
    $("#delete-adapter").close();
    rows.withdraw(value);
    followAdapter();
    toast("The adapter is in the trash.");
    select.focus();
  });
}

export function startAdapters() {
  $("#import-file").addEventListener("change", async (event) => {
    const files = [...event.target.files];
    event.target.value = "";
    if (files.length) await importFiles(files);
  });
  listenToNames();
}
