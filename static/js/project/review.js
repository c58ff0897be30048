// The verdict on the set: one sentence, three numbers that filter, and findings, each with its photos and one button.

import { api, quietly } from "../lib/api.js";
import { $, $$, icon, show, throttled, write } from "../lib/dom.js";
import { onPress } from "../lib/forms.js";
import { findings, good, signOf, titleOf, toLookAt, unsure, wouldGo } from "./findings.js";
import { hint } from "./grid.js";
import { shown } from "./order.js";
import { propose, proposePick } from "./proposal.js";
import { room } from "./state.js";
import { setFilter } from "./toolbar.js";

const SHOWN = 3; // photos in a finding's fan
const PICK_FROM = 8; // photos: of fewer, nobody needs to pick
let picked = false; // the user has said how many

const load = async () => room.setReview(await api("GET", `/projects/${room.project}/review`));
export const loadReview = throttled(250, () => quietly(load()));

const ACTIONS = {
  set_aside: (finding) => (wouldGo(finding).length === 1 ? "Set it aside" : finding.keep ? "Keep the sharpest" : `Set ${wouldGo(finding).length} aside`),
  crop: () => "Crop",
  look: () => "Look",
};

function fan(finding) {
  const box = document.createElement("span");
  box.className = "fan";
  box.setAttribute("aria-hidden", "true");
  const photos = finding.photos.map((id) => room.photos.get(id)).filter(Boolean).slice(0, SHOWN);
  for (const photo of photos) {
    const thumb = new Image();
    thumb.src = photo.thumb_url;
    thumb.alt = "";
    thumb.loading = "lazy";
    box.append(thumb);
  }
  if (!photos.length) {
    const gap = document.createElement("span");
    gap.className = "gap";
    gap.append(icon(signOf(finding)));
    box.append(gap);
  }
  return box;
}

function draw(finding) {
  const item = document.createElement("li");
  const box = document.createElement(finding.photos.length ? "button" : "div");
  box.className = "finding";
  const words = document.createElement("span");
  const title = document.createElement("b");
  title.textContent = titleOf(finding);
  words.append(title);
  if (unsure(finding)) {
    const doubt = document.createElement("span");
    doubt.className = "quiet";
    doubt.textContent = " · unsure";
    words.append(doubt);
  }
  const why = document.createElement("span");
  why.className = "why";
  why.textContent = finding.words;
  words.append(why);
  box.append(fan(finding), words);
  item.append(box);
  if (!finding.photos.length) return item;
  const act = document.createElement("span");
  act.className = "do";
  act.textContent = ACTIONS[finding.action](finding);
  words.append(act);
  box.type = "button";
  box.append(icon("right"));
  box.onclick = () => propose(finding);
  box.onpointerenter = box.onfocus = () => hint(finding.photos);
  box.onpointerleave = box.onblur = () => hint([]);
  return item;
}

function drawNumbers() {
  const photos = [...room.photos.values()];
  const numbers = { good: photos.filter(good).length, look: photos.filter(toLookAt).length, aside: photos.filter((photo) => photo.aside).length };
  const judged = room.review?.state === "done" || findings().length > 0;
  write($("#numbers [data-filter=good] span"), judged ? "good" : "photos"); // nobody has looked at them yet
  for (const button of $$("#numbers button")) {
    const name = button.dataset.filter;
    write($("b", button), numbers[name]);
    button.setAttribute("aria-pressed", String(shown.filter === name));
    $(`#share [data-part=${name}]`).style.flexGrow = numbers[name];
  }
}

function drawAll() {
  const { review } = room;
  drawNumbers();
  if (!review) return;
  write($("#verdict-title"), review.verdict.title);
  write($("#verdict-words"), review.verdict.words);
  const active = room.active.length;
  const running = review.state === "running";
  show($("#review-running"), running && room.photos.size > 0);
  write($("#review-running-words"), `Looking at the photos: ${Math.min(review.done, room.photos.size)} of ${room.photos.size}`);
  $("#review-bar").max = Math.max(1, room.photos.size);
  $("#review-bar").value = review.done;
  show($("#review-again"), review.state === "stopped" && room.photos.size > 0);
  write($("#review-problem"), review.problem ?? "");
  const open = findings().filter((one) => one.action !== "set_aside" || wouldGo(one).length > 0);
  $("#findings").replaceChildren(...open.map(draw));
  show($("#pick-best"), review.state === "done" && active > PICK_FROM);
  $("#pick-count").max = active;
  if (!picked) $("#pick-count").value = Math.min(20, active - 1);
}

export function startReview() {
  room.on("review photos gone", throttled(60, drawAll));
  room.on("shown", drawNumbers);
  for (const button of $$("#numbers button")) {
    button.addEventListener("click", () => setFilter(shown.filter === button.dataset.filter ? "all" : button.dataset.filter));
  }
  onPress($("#review-start"), async () => { await api("POST", `/projects/${room.project}/review`); loadReview(); }, $("#review-problem"));
  $("#pick-count").addEventListener("input", () => { picked = true; });
  $("#pick-best").addEventListener("submit", (event) => {
    event.preventDefault();
    proposePick($("#pick-count").value);
  });
  loadReview();
}
