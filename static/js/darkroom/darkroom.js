// The page where pictures are drawn: its parts, and what comes while jobs draw. One press on Draw is one job.

import { $, page, throttled, write } from "../lib/dom.js";
import { Events } from "../lib/events.js";
import { onBack } from "../lib/server.js";
import { importFiles, startAdapters } from "./adapters.js";
import { fillIn, startAsk } from "./ask.js";
import { startGallery } from "./gallery.js";
import { gridChanged, openGrid, startGrid } from "./grid_table.js";
import { takeDropped } from "./recipe_file.js";
import { room } from "./state.js";
import { startViewer } from "./viewer.js";

startViewer(fillIn);
startGallery({ use: fillIn, openGrid });
startAsk(openGrid);
startAdapters();
startGrid();
takeDropped(fillIn, importFiles);

// Drawings that have changed, fetched together: a picture of a fast model comes every few hundred milliseconds.
const stale = new Set();
const refreshStale = throttled(150, () => {
  for (const job of stale) room.refresh(job);
  stale.clear();
});

function refreshSoon(job) {
  stale.add(job);
  refreshStale();
}

const others = new Set(); // jobs that draw nothing here
const isDrawing = (job) => room.drawings.has(job);

async function meet(job) {
  if (others.has(job)) return;
  await room.refresh(job); // it may have been started in another tab
  if (!isDrawing(job)) others.add(job);
}

new Events({}, page.dataset.after, {
  state(payload, row) {
    if (isDrawing(row.job_id)) refreshSoon(row.job_id);
    else if (payload.state === "queued") meet(row.job_id);
    gridChanged(row.job_id);
  },
  phase(payload, row) {
    if (!isDrawing(row.job_id)) return;
    const words = $(`#gallery [data-job="${row.job_id}"] [data-words]`);
    if (words) write(words, payload.of > 1 ? `${payload.name}, ${payload.done} of ${payload.of}` : payload.name);
  },
  sample(payload, row) {
    if (!isDrawing(row.job_id)) return;
    refreshSoon(row.job_id);
    gridChanged(row.job_id);
    write($("#spoken"), `A picture is drawn: ${payload.prompt}, seed ${payload.seed}.`);
  },
});
onBack(() => room.refreshAll());
