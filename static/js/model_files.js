// ComfyUI's files on the Models page: use one as a model. Its job's events redraw the page (models.js).

import { api } from "./lib/api.js";
import { $, write } from "./lib/dom.js";

const shelf = $("#models");

shelf.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-file]");
  if (!button) return;
  const row = button.closest("[data-model]");
  const buttons = row.querySelectorAll("[data-file]");
  write($("[data-error]", row), "");
  for (const each of buttons) each.disabled = true;
  try {
    await api("POST", "/model-files", { file: button.dataset.file, model: button.dataset.as });
  } catch (problem) {
    if (!("problems" in problem)) throw problem;
    write($("[data-error]", row), problem.problems[0]?.message ?? problem.message);
    for (const each of buttons) each.disabled = false;
  }
});
