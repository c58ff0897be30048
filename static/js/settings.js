// Settings, each saved when it is changed. The theme is a setting of this browser, in a cookie.

import { ApiError, api } from "./lib/api.js";
import { $, write } from "./lib/dom.js";
import { fileSize, plural } from "./lib/format.js";
import { clearErrors, onPress, showErrors } from "./lib/forms.js";
import { onBack } from "./lib/server.js";

const form = $("#settings");
const unsaved = new Set(); // fields changed while the studio did not answer
let quiet = null;

function saved(words) {
  write($("#saved"), words);
  clearTimeout(quiet);
  quiet = setTimeout(() => write($("#saved"), ""), 3000);
}

function setTheme(theme) {
  document.cookie = `likeness-theme=${theme}; path=/; max-age=31536000; samesite=strict`;
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  saved("Saved");
}

async function save(field) {
  if (field.name === "theme") {
    setTheme(field.value);
    return;
  }
  const value = field.dataset.kind === "bool" ? field.checked : field.value;
  try {
    const now = await api("PATCH", "/settings", { [field.name]: value });
    if (field.dataset.kind !== "bool") field.value = now[field.name];
    unsaved.delete(field);
    clearErrors(form);
    saved("Saved");
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 0) unsaved.add(field);
    showErrors(form, error);
    saved("Not saved");
  }
}

form.addEventListener("change", (event) => event.target.name && save(event.target));
onBack(() => { for (const field of unsaved) save(field); });
form.addEventListener("submit", (event) => event.preventDefault());

onPress($("#test-captioner"), async () => {
  write($("#captioner-words"), "Asking …");
  const servers = await api("GET", "/captioners");
  const words = servers.map((server) => `${server.name ?? "A server"} answers at ${server.url} with ${plural(server.models.length, "model")}: ${server.models.join(", ") || "none"}.`);
  write($("#captioner-words"), words.join(" ") || "No vision server answers on this computer. Start Ollama, LM Studio, llama.cpp or mlx-vlm, then test again.");
}, $("#captioner-words"));

for (const [button, path, what] of [["#empty-trash", "/trash", "trash"], ["#clear-cache", "/cache", "cache"]]) {
  onPress($(button), async () => {
    const freed = await api("DELETE", path);
    const line = $(`[data-disk="${what}"]`);
    write(line, "0 B");
    saved(freed.bytes ? `${fileSize(freed.bytes)} are free again.` : "It was empty already.");
  }, $("#disk-error"));
}
