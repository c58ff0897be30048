// A project's page, the dataset room: photos, captions, crops, masks and the verdict on them, and the runs, live.

import { api, quietly } from "../lib/api.js";
import { $, page, throttled } from "../lib/dom.js";
import { Events } from "../lib/events.js";
import { takeFiles } from "../lib/files.js";
import { onSubmit, showErrors } from "../lib/forms.js";
import { runLines } from "../lib/run_lines.js";
import { onBack } from "../lib/server.js";
import { startActions } from "./actions.js";
import { captionEvents, startCaptionJobs } from "./caption_job.js";
import { startCaptionList } from "./caption_list.js";
import { openWords, showProposal, startWords } from "./caption_words.js";
import { startChoosingRuns } from "./choose_runs.js";
import { startGrid } from "./grid.js";
import { openLoupe, startLoupe } from "./loupe.js";
import { onPanel, startPanel } from "./panel.js";
import { startProposal } from "./proposal.js";
import { loadReview, startReview } from "./review.js";
import { room } from "./state.js";
import { startToolbar, startViews } from "./toolbar.js";
import { listenToSubject } from "./trigger.js";
import { Uploads } from "./upload.js";
import { startVersions } from "./versions.js";

startToolbar();
startCaptionList((id) => openLoupe(id));
startGrid();
startViews();
startActions();
startWords();
startCaptionJobs(showProposal);
startProposal();
startPanel();
onPanel({ openTool: (tool) => openLoupe(room.current, tool), openWriter: (ids) => openWords(ids, "openai") });
startLoupe();
startReview();
startVersions();
startChoosingRuns();

const uploads = new Uploads(room.project, { onPhoto: (photo) => room.put([photo]), onArchive: () => room.refresh() });
takeFiles((files) => uploads.add(files), [$("#choose-files"), $("#choose-folder")]);

listenToSubject($("#edit-project-form"), room.project);
onSubmit($("#delete-project form"), async () => {
  events.close(); // else it asks for what is being deleted
  try {
    await api("DELETE", `/projects/${room.project}`);
  } catch (error) {
    events.open();
    throw error;
  }
  location.assign("/");
}, showErrors);

// ---- live: jobs, and what other pages of this project change ----

let changed = []; // lists of ids
const catchUp = throttled(300, () => quietly(room.afterChanges(async () => {
  const foreign = changed.filter((each) => !room.isOwn(each));
  changed = [];
  if (!foreign.length) return;
  room.forget();
  await room.refresh([...new Set(foreign.flat())]);
})));

// The project's own words stand in the page as the studio made it.
const checkWords = throttled(300, () => quietly((async () => {
  const { name, trigger, class_word: kind } = await api("GET", `/projects/${room.project}`);
  if (name !== $("h1").textContent || trigger !== page.dataset.trigger || kind !== page.dataset.classWord) location.reload();
})()));

onBack(() => {
  quietly(room.afterChanges(() => room.refresh()));
  loadReview();
});
const events = new Events({ project: room.project }, page.dataset.after, {
  state(payload, row) {
    if (row.run_id) runLines.state(payload, row);
    captionEvents.state(payload, row);
    if (row.run_id) return;
    loadReview();
    if (payload.state === "succeeded") quietly(room.afterChanges(() => room.refresh())); // boxes, masks and captions that it found
  },
  phase(payload, row) {
    captionEvents.phase(payload, row);
    if (!row.run_id) loadReview();
  },
  edit(payload) {
    room.setHistory(payload);
    if (!payload.photos.length || payload.words.startsWith("the trigger")) checkWords();
    changed.push(payload.photos);
    catchUp();
    loadReview();
  },
  metric: runLines.metric,
});
