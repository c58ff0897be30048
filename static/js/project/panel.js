// Beside the photo in the loupe: its findings, caption, crops, and what is known of it.

import { $, icon, show, write } from "../lib/dom.js";
import { fileSize } from "../lib/format.js";
import { toggleEarlier } from "./caption_history.js";
import { typed } from "./captions.js";
import { drawCrops } from "./crop_tool.js";
import { findingsOf, signOf, unsure } from "./findings.js";
import { subjectOf, trained } from "./shapes.js";
import { room } from "./state.js";

const field = $("#loupe-caption");
let photo = null;
let openTool = () => {};
let openWriter = () => {};

export function onPanel(given) { [openTool, openWriter] = [given.openTool, given.openWriter]; }

function drawFindings() {
  $("#loupe-findings").replaceChildren(...findingsOf(photo.id).filter((one) => one.keep !== photo.id).map((finding) => {
    const box = document.createElement("div");
    box.className = "note warn";
    const words = document.createElement("div");
    const line = document.createElement("p");
    line.textContent = finding.words;
    words.append(line);
    if (unsure(finding)) {
      const doubt = document.createElement("p");
      doubt.className = "quiet";
      doubt.textContent = "Unsure: look for yourself.";
      words.append(doubt);
    }
    if (finding.kind === "several_subjects") {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "link-button";
      button.textContent = "Mark what to ignore";
      button.onclick = () => openTool("mask");
      words.append(button);
    }
    box.append(icon(signOf(finding)), words);
    return box;
  }));
}

function facts() {
  const crop = trained(photo, room.buckets)[0];
  const subject = subjectOf(photo);
  const share = subject && Math.round((subject.right - subject.left) * (subject.bottom - subject.top) * 100);
  const rows = [
    ["Size", `${photo.width} × ${photo.height}`], ["File", fileSize(photo.bytes)],
    ["Taken", photo.taken ? new Date(photo.taken).toLocaleString([], { dateStyle: "medium", timeStyle: "short" }) : "unknown"],
    ["Subject fills", share ? `${share}% of the photo${photo.subject.source === "you" ? " (yours)" : ""}` : "unknown"],
    ["Mask", { you: "yours", found: "proposed" }[photo.mask] ?? "none"],
    ["Enlarged", enlargement(crop)],
  ];
  return rows.flatMap(([label, value]) => {
    const [term, text] = [document.createElement("dt"), document.createElement("dd")];
    [term.textContent, text.textContent] = [label, value];
    return [term, text];
  });
}

function enlargement({ box, bucket }) {
  const factor = bucket[0] / ((box.right - box.left) * photo.width);
  return factor > 1.05 ? `${factor.toFixed(1)} times: few pixels` : "no";
}

export function drawPanel(one) {
  const same = photo?.id === one.id;
  photo = one;
  field.placeholder = room.template;
  typed.show(field, one);
  if (!same) {
    write($("#loupe-saved"), "");
    show($("#loupe-earlier"), false);
  }
  drawFindings();
  drawCrops(one, openTool);
  $("#loupe-facts").replaceChildren(...facts());
}

export function leavePanel() {
  typed.leave(field);
  photo = null;
}

export function startPanel() {
  typed.listen(field, $("#loupe-saved"), () => photo?.id);
  $("#loupe-history").addEventListener("click", () => toggleEarlier($("#loupe-earlier"), photo.id, (id) => photo?.id === id));
  $("#loupe-write").addEventListener("click", () => openWriter([photo.id]));
}

