// What a finding would do, shown before it does it: which photos stay, which go, and how a crop would change.

import { api } from "../lib/api.js";
import { $, show, write } from "../lib/dom.js";
import { plural } from "../lib/format.js";
import { titleOf, unsure, wouldGo } from "./findings.js";
import { openLoupe } from "./loupe.js";
import { aspectOf, closeUp, place, subjectCrop, subjectOf, trained } from "./shapes.js";
import { attempt, editWithUndo, room } from "./state.js";

const box = $("#proposal");
const CLOSE_UPS = 4; // at most, of a set without one
let act = null;
let opener = null;

function card(id, words, { goes = false, crop = null } = {}) {
  const photo = room.photos.get(id);
  const item = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  button.setAttribute("aria-label", `Open ${photo.name}`);
  button.onclick = () => openLoupe(id, crop ? "crop" : "look");
  const pic = document.createElement("span");
  pic.className = `pic${goes ? " goes" : ""}`;
  place(pic, photo, crop ?? trained(photo, room.buckets)[0].box);
  const image = new Image();
  image.src = photo.thumb_url;
  image.alt = "";
  image.loading = "lazy";
  pic.append(image);
  button.append(pic);
  const line = document.createElement("p");
  line.className = "why";
  const name = document.createElement("span");
  name.textContent = photo.name;
  const what = document.createElement(goes ? "span" : "b");
  what.textContent = words;
  line.append(name, what);
  item.append(button, line);
  return item;
}

function open(title, words, cards, verb, other, does) {
  act = does;
  opener = document.activeElement;
  write($("#proposal-title"), title);
  write($("#proposal-words"), words);
  $("#proposal-photos").replaceChildren(...cards);
  write($("#proposal-do"), verb);
  show($("#proposal-do"), Boolean(does));
  write($("#proposal-not"), other);
  show(box, true);
  box.scrollIntoView({ block: "nearest" });
  $("#proposal-title").focus({ preventScroll: true });
}

function close() {
  show(box, false);
  act = null;
  if (opener?.isConnected) opener.focus();
}

const sure = (finding) => (unsure(finding) ? " This may be wrong: look at them first." : "");

function setAside(finding) {
  const going = wouldGo(finding);
  const shown = finding.photos.filter((id) => id === finding.keep || going.includes(id));
  const cards = shown.map((id) => (going.includes(id) ? card(id, "set aside", { goes: true }) : card(id, "stays")));
  open(titleOf(finding), finding.words + sure(finding), cards, `Set ${going.length} aside`, "Keep them all", () => editWithUndo(going, { aside: true }));
}

// Crops that keep the subject; for a set that is framed alike, or has no close-up, a second, tight crop of some.
function crop(finding) {
  const photos = (finding.photos.length ? finding.photos.map((id) => room.photos.get(id)) : room.active).filter((photo) => photo && !photo.aside);
  const close = finding.kind === "no_close_up" || finding.kind === "same_framing"; // more crops of the same size add nothing
  const planned = close ? closeUps(photos).slice(0, CLOSE_UPS) : subjectCrops(photos);
  if (!planned.length) {
    look(finding);
    return;
  }
  const cards = planned.map(({ photo, box: next }) => card(photo.id, close ? "also this" : "cropped to this", { crop: next }));
  const verb = close ? `Add ${plural(planned.length, "close-up")}` : `Crop ${plural(planned.length, "photo")}`;
  open(titleOf(finding), finding.words + sure(finding), cards, verb, "Leave them", () => (close ? addCloseUps(planned) : editWithUndo(planned.map(({ photo }) => photo.id), { crop: "subject" })));
}

const near = (one, other) => Object.keys(one).every((side) => Math.abs(one[side] - other[side]) < 0.01);

// A tight crop of each photo whose subject is small, and that has none yet: [{photo, box, boxes}], with those it has.
export function closeUps(photos) {
  return photos.map((photo) => {
    const crops = trained(photo, room.buckets);
    const [subject, boxes] = [subjectOf(photo), crops.map((each) => each.box)];
    return { photo, boxes, box: subject && closeUp(subject, photo.width, photo.height, aspectOf(crops[0].bucket)) };
  }).filter(({ box: tight, boxes }) => tight && !boxes.some((each) => near(each, tight)));
}

// As one step of undo.
export function addCloseUps(planned) {
  const crops = planned.map(({ photo, box: tight, boxes }) => [photo.id, [...boxes, tight].map((each) => ({ box: each }))]);
  return editWithUndo(planned.map(({ photo }) => photo.id), { crops: Object.fromEntries(crops) });
}

function subjectCrops(photos) {
  return photos.map((photo) => {
    const [first] = trained(photo, room.buckets);
    const subject = subjectOf(photo);
    return { photo, box: subject && subjectCrop(subject, photo.width, photo.height, aspectOf(first.bucket)) };
  }).filter((one) => one.box);
}

function look(finding) {
  open(titleOf(finding), finding.words + sure(finding), finding.photos.map((id) => card(id, "look")), "", "Close", null);
}

export function propose(finding) {
  ({ set_aside: setAside, crop, look })[finding.action](finding);
}

// The best so many of the set, diverse and sharp: what would be set aside is shown first.
export async function proposePick(count) {
  const pick = await attempt(() => api("GET", `/projects/${room.project}/pick?count=${encodeURIComponent(count)}`));
  if (!pick) return;
  const cards = [...pick.keep.map((id) => card(id, "stays")), ...pick.set_aside.map((id) => card(id, "set aside", { goes: true }))];
  const does = pick.set_aside.length ? () => editWithUndo(pick.set_aside, { aside: true }) : null;
  open(`The best ${pick.keep.length}`, pick.words, cards, `Set ${pick.set_aside.length} aside`, "Keep them all", does);
}

export function startProposal() {
  $("#proposal-do").addEventListener("click", async () => {
    const does = act;
    close();
    await does();
  });
  $("#proposal-not").addEventListener("click", close);
  box.addEventListener("keydown", (event) => event.key === "Escape" && close());
}
