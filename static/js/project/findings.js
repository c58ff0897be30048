// The findings of the verdict, by photo: their signs, and which photos are good.

import { room } from "./state.js";

export const UNSURE = 0.6;

// By kind: the sign on a photo, and the finding's title for so many photos.
const KINDS = {
  duplicate: ["stack", "Twice", (n) => `${n} ${n === 1 ? "is" : "are"} here twice`],
  near_duplicate: ["stack", "Too alike", (n) => `${n} ${n === 1 ? "is" : "are"} too alike`],
  blurred: ["blur", "Blurred", (n) => `${n} may be blurred`],
  dark: ["moon", "Dark", (n) => `${n} ${n === 1 ? "is" : "are"} dark`],
  bright: ["sun", "Too bright", (n) => `${n} ${n === 1 ? "is" : "are"} too bright`],
  small: ["close-up", "Small", (n) => `${n} ${n === 1 ? "has" : "have"} few pixels`],
  screenshot: ["screen", "Screenshot", (n) => (n === 1 ? "1 is a screenshot" : `${n} are screenshots`)],
  several_subjects: ["two", "Several subjects", (n) => `${n} ${n === 1 ? "shows" : "show"} another subject`],
  no_subject: ["photo", "No subject found", (n) => `No subject found in ${n}`],
  unlike_the_rest: ["info", "Unlike the rest", (n) => `${n} ${n === 1 ? "is" : "are"} unlike the rest`],
  few_photos: ["photo", "", () => "Few photos"],
  same_background: ["photo", "", () => "The same place"],
  same_framing: ["crop", "", () => "The same framing"],
  no_close_up: ["close-up", "", () => "No close-up"],
  no_whole: ["photo", "", () => "None shows all of it"],
};
const unknown = (kind) => ["info", kind.replaceAll("_", " "), () => kind.replaceAll("_", " ")];
const rowOf = (kind) => KINDS[kind] ?? unknown(kind);

export const OF_THE_SET = new Set(["few_photos", "same_background", "same_framing", "no_close_up", "no_whole"]);
export const signOf = (finding) => rowOf(finding.kind)[0];
export const unsure = (finding) => finding.sure < UNSURE;

// The photos that the finding would set aside: all but the one that stays, and those that are not set aside yet.
export function wouldGo(finding) {
  if (finding.action !== "set_aside") return [];
  return finding.photos.filter((id) => id !== finding.keep && room.photos.get(id)?.aside === false);
}

export const findings = () => room.review?.findings ?? [];

export function titleOf(finding) {
  const number = finding.action === "set_aside" ? wouldGo(finding).length : finding.photos.length;
  return rowOf(finding.kind)[2](number);
}

let byPhoto = new Map(); // id -> [finding]
room.on("review", () => {
  byPhoto = new Map();
  for (const finding of findings()) {
    if (OF_THE_SET.has(finding.kind)) continue;
    for (const id of finding.photos) byPhoto.set(id, [...(byPhoto.get(id) ?? []), finding]);
  }
});

export const findingsOf = (id) => byPhoto.get(id) ?? [];

// Signs on a photo: {icon, label}. The one that stays of a group has none.
export function marksOf(id) {
  return findingsOf(id).filter((one) => one.keep !== id).map((one) => ({ icon: rowOf(one.kind)[0], label: rowOf(one.kind)[1] }));
}

// A photo is good unless it is set aside, or a finding would set it aside.
export const toLookAt = (photo) => !photo.aside && findingsOf(photo.id).some((one) => one.action === "set_aside" && one.keep !== photo.id);
export const good = (photo) => !photo.aside && !toLookAt(photo);

// Groups of photos of one moment: [[id, ...]], the one that stays first.
export function stacks() {
  return findings().filter((one) => one.kind === "near_duplicate" && one.photos.length > 1).map((one) => {
    const first = one.keep ?? one.photos[0];
    return [first, ...one.photos.filter((id) => id !== first)];
  });
}
