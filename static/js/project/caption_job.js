// The job that writes captions: its progress, its end, and what it left out.

import { api, quietly } from "../lib/api.js";
import { $, show, throttled, toast, write } from "../lib/dom.js";
import { plural } from "../lib/format.js";
import { onPress } from "../lib/forms.js";
import { wording } from "../lib/wording.js";
import { listed } from "./caption_files.js";
import { attempt, room } from "./state.js";

let job = $("#captioning").dataset.job || null;
let proposes = false; // it only proposes captions
let onProposal = () => {};

const refresh = throttled(700, () => quietly(room.refresh()));

function draw(words, done = 0, of = 0) {
  show($("#captioning"));
  const bar = $("#captioning-bar");
  bar.max = of || 1;
  if (of) bar.value = done;
  write($("#captioning-words"), words);
}

export function startCaptionJob(id, preview) {
  job = String(id);
  proposes = preview;
  show($("#captioning-error"), false);
  draw(wording.queued);
}

// Photos that were left out are named, the first with its reason.
async function report(id) {
  const { result } = await api("GET", `/jobs/${id}`);
  const [first, ...others] = result.left_out ?? [];
  if (!first) {
    toast("The captions are written.");
    return;
  }
  const more = others.length ? ` So were ${listed(others.map((one) => one.field))}.` : "";
  write($("#captioning-error p"), `${plural(result.written, "caption")} written. ${first.field} was left out: ${first.message}${more}`);
  show($("#captioning-error"));
}

function end(state, error) {
  const [id, proposal] = [job, proposes];
  job = null;
  show($("#captioning"), false);
  show($("#captioning-error"), state === "failed");
  if (state === "failed") write($("#captioning-error p"), error?.message ?? "The captions could not be written.");
  if (!proposal) refresh();
  if (state === "succeeded") attempt(() => (proposal ? onProposal(id) : report(id)));
}

export const captionEvents = {
  state(payload, row) {
    if (String(row.job_id) !== job) return;
    if (payload.state === "running") write($("#captioning-words"), "Starting …");
    else if (payload.state !== "queued") end(payload.state, payload.error);
  },
  phase(payload, row) {
    if (String(row.job_id) !== job) return;
    if (!payload.of) { // the built-in captioner starts
      draw("Loading the captioner …");
      return;
    }
    draw(`${payload.done} of ${payload.of} photos`, payload.done, payload.of);
    if (!proposes) refresh();
  },
};

export function startCaptionJobs(showProposal) {
  onProposal = showProposal;
  onPress($("#captioning-stop"), () => api("POST", `/jobs/${job}/stop`), $("#captioning-words"));
}
