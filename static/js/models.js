// The models: download, stop, go on; the captioner: install, remove. The rows are fetched again when a job changes its
// state; bars follow its events.

import { api, freshPage } from "./lib/api.js";
import { $, $$, page, throttled, toast, write } from "./lib/dom.js";
import { Events } from "./lib/events.js";
import { duration, fileSize } from "./lib/format.js";
import { onSubmit } from "./lib/forms.js";
import { onBack } from "./lib/server.js";

const shelf = $("#models");
const marks = new Map(); // job -> its first progress on this page: {done, at}

const redraw = throttled(300, async () => {
  const fresh = await freshPage();
  if (!fresh) return;
  const focused = document.activeElement?.closest("[data-model]")?.dataset.model;
  const open = $$("[data-details][open]", shelf).map((each) => each.closest("[data-model]").dataset.model);
  shelf.replaceChildren(...$("#models", fresh).childNodes);
  for (const name of open) $(`[data-model="${CSS.escape(name)}"] [data-details]`, shelf)?.setAttribute("open", "");
  if (focused) $("button:not(:disabled), a", $(`[data-model="${CSS.escape(focused)}"]`, shelf) ?? shelf)?.focus();
  events.replay(fresh);
});

shelf.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-download], [data-install], [data-stop]");
  if (!button) return;
  const error = $("[data-error]", button.closest("[data-model]"));
  const { download, stop } = button.dataset;
  const install = "install" in button.dataset ? "/captioner/install" : null;
  write(error, "");
  button.disabled = true;
  try {
    await api("POST", install ?? (download ? `/models/${encodeURIComponent(download)}/download` : `/jobs/${stop}/stop`));
    redraw();
  } catch (problem) {
    if (!("problems" in problem)) throw problem;
    write(error, problem.message);
    button.disabled = false;
  }
});

onSubmit($("#remove-captioner form"), async () => {
  const { bytes } = await api("DELETE", "/captioner");
  $("#remove-captioner").close();
  toast(`The captioner is removed; ${fileSize(bytes)} are free again.`);
  redraw();
});

// "3.2 GB of 33 GB, 12 min left", at the pace since this page was opened.
function words({ name, done, of }, row) {
  const at = Date.parse(row.at);
  const mark = marks.get(row.job_id);
  if (!mark || name !== "downloading" || done < mark.done) {
    marks.set(row.job_id, { done, at });
    return name === "downloading" ? `${fileSize(done)} of ${fileSize(of)}` : name;
  }
  const pace = (done - mark.done) / Math.max(at - mark.at, 1);
  const left = pace > 0 && done < of ? `, ${duration((of - done) / pace / 1000)} left` : "";
  return `${fileSize(done)} of ${fileSize(of)}${left}`;
}

onBack(redraw);
const events = new Events({}, page.dataset.after, {
  state: () => redraw(),
  phase: (payload, row) => {
    const line = $(`[data-job="${row.job_id}"]`, shelf);
    if (!line) return;
    const bar = $("progress", line);
    bar.max = payload.of || 1;
    if (payload.of) bar.value = payload.done;
    else bar.removeAttribute("value");
    write($("[data-words]", line), words(payload, row));
  },
});
