// The bell: says when a run has ended or failed, on whatever page one is, once for all open pages of the studio.
//
//   one page watches      whoever holds the lock "likeness-bell"; its stream brings states alone, also while it is hidden
//   it tells              by a notification where the browser may show them; else a page in view shows a message, and the
//                         next one that comes into view, where none is
//   a sound               comes from a page that was used before, since browsers keep others silent
//
// The choice is this browser's, as its permission is: it is kept here. Nothing is asked before the user ticks the box.

import { api, quietly } from "./api.js";
import { $, page, toast, write } from "./dom.js";
import { plural } from "./format.js";

const CHOICE = "bell"; // {on, sound}
const SEEN = "bell-seen"; // the newest event that was looked at
const UNTOLD = "bell-untold"; // [{words, url}] that no page has shown yet
const SOUNDED = "bell-sounded"; // the event whose sound was taken by a page
const FRESH_MS = 120_000; // what ended earlier, while no page was open, is on its page
const LONG_MS = 60_000; // other jobs are worth a word when they took longer
const RETRY_MS = 5000;
const TOAST_SECONDS = 15;
const NOTES = [[659, 0], [880, 0.16]]; // Hz, seconds from the start
const WORDS = {
  granted: "By a notification, while a page of Likeness is open.",
  denied: "By a message in an open page of Likeness: the browser shows no notifications for it.",
  default: "By a notification, if the browser may show them; else by a message in an open page.",
};
const ENDS = { succeeded: "is done", failed: "has failed" };

const stored = (key, otherwise) => JSON.parse(localStorage.getItem(key) ?? "null") ?? otherwise;
const keep = (key, value) => localStorage.setItem(key, JSON.stringify(value));
const choice = () => stored(CHOICE, { on: false, sound: false });
const exclusively = (name, act) => (navigator.locks ? navigator.locks.request(name, act) : act());
const channel = new BroadcastChannel("likeness-bell");
const allowed = () => "Notification" in window && Notification.permission === "granted";

// ---- the watch ----

let source = null;
let release = null; // ends this page's turn as the one that watches, or its wait for it
let retry = null;

function open() {
  const after = stored(SEEN, Number(page.dataset.after) || 0);
  source = new EventSource(`/api/events?kind=state${after ? `&after=${after}` : ""}`);
  source.addEventListener("state", (event) => {
    const id = Number(event.lastEventId);
    if (id <= stored(SEEN, 0)) return;
    keep(SEEN, id);
    const row = JSON.parse(event.data);
    if (row.payload.state in ENDS && Date.now() - Date.parse(row.at) < FRESH_MS) quietly(announce(id, row));
  });
  source.onerror = () => {
    if (source?.readyState !== EventSource.CLOSED) return;
    retry = setTimeout(open, RETRY_MS);
  };
}

function close() {
  clearTimeout(retry);
  source?.close();
  source = null;
}

function watch() {
  if (release) return;
  const stop = new AbortController();
  const turn = new Promise((done) => { release = () => { stop.abort(); done(); }; });
  const hold = () => { open(); return turn.then(close); };
  const waited = navigator.locks ? navigator.locks.request("likeness-bell", { signal: stop.signal }, hold) : hold();
  waited.catch((error) => { if (error.name !== "AbortError") throw error; });
}

function unwatch() {
  release?.();
  release = null;
  localStorage.removeItem(SEEN); // what ends from now on is nobody's to tell
}

// ---- telling ----

async function announce(id, row) {
  const job = await api("GET", `/jobs/${row.job_id}`);
  const took = Date.parse(job.ended_at) - Date.parse(job.started_at);
  if (job.kind === "check" || (!job.run_id && !(took >= LONG_MS))) return; // reviews of photos come and go by themselves
  const about = [job.project_name, job.run_name].filter(Boolean).join(", ") || `A ${job.kind} job`;
  const words = `${about} ${ENDS[row.payload.state]}.`;
  const url = job.run_id ? `/runs/${job.run_id}` : "/queue";
  const detail = row.payload.error?.message ?? (job.steps ? plural(job.steps, job.run_id ? "step" : "part") : "");
  if (choice().sound) spread({ sound: id });
  if (allowed() && notify(words, detail, url, id)) return;
  keep(UNTOLD, [...stored(UNTOLD, []), { words: [words, row.payload.error?.message].filter(Boolean).join(" "), url }]);
  spread({ untold: true });
}

// False where the browser shows notifications only for installed applications.
function notify(words, body, url, id) {
  try {
    const note = new Notification(words, { body, tag: `likeness-${id}`, icon: "/static/favicon.svg" });
    note.onclick = () => { focus(); location.assign(url); note.close(); };
    return true;
  } catch {
    return false;
  }
}

// To the other pages and to this one.
function spread(message) {
  channel.postMessage(message);
  receive(message);
}

function receive({ sound = null, untold = false }) {
  if (sound !== null) playOnce(sound);
  if (untold) tellUntold();
}

// One page in view takes what is there to tell, and shows it.
function tellUntold() {
  if (document.hidden) return;
  exclusively("likeness-bell-untold", async () => {
    const news = stored(UNTOLD, []);
    localStorage.removeItem(UNTOLD);
    for (const { words, url } of news) show(words, url);
  });
}

async function show(words, url) {
  if (await toast(words, { undo: "Look", seconds: TOAST_SECONDS })) location.assign(url);
}

function playOnce(id) {
  if (!navigator.userActivation?.hasBeenActive) return;
  exclusively("likeness-bell-sound", async () => {
    if (stored(SOUNDED, 0) >= id) return;
    keep(SOUNDED, id);
    play();
  });
}

function play() {
  const audio = new AudioContext();
  for (const [pitch, start] of NOTES) {
    const at = audio.currentTime + start;
    const tone = new OscillatorNode(audio, { frequency: pitch });
    const volume = new GainNode(audio, { gain: 0 });
    volume.gain.setValueAtTime(0.0001, at);
    volume.gain.exponentialRampToValueAtTime(0.12, at + 0.02);
    volume.gain.exponentialRampToValueAtTime(0.0001, at + 0.5);
    tone.connect(volume).connect(audio.destination);
    tone.start(at);
    tone.stop(at + 0.55);
    tone.onended = () => { if (start) audio.close(); };
  }
}

// ---- the menu ----

const bell = $("#bell");
const on = $("#bell-on");
const sound = $("#bell-sound");

function draw() {
  const chosen = choice();
  on.checked = chosen.on;
  sound.checked = chosen.sound;
  sound.disabled = !chosen.on;
  bell.classList.toggle("bell-on", chosen.on);
  $("summary", bell).setAttribute("aria-label", chosen.on ? "Notifications, on" : "Notifications, off");
  write($("#bell-words"), WORDS["Notification" in window ? Notification.permission : "denied"]);
  if (chosen.on) watch();
  else unwatch();
}

on.addEventListener("change", async () => {
  keep(CHOICE, { ...choice(), on: on.checked });
  draw();
  if (!on.checked || !("Notification" in window) || Notification.permission !== "default") return;
  await Notification.requestPermission();
  draw();
});
sound.addEventListener("change", () => {
  keep(CHOICE, { ...choice(), sound: sound.checked });
  if (sound.checked) play();
});
channel.onmessage = ({ data }) => receive(data);
addEventListener("storage", ({ key }) => { if (key === CHOICE) draw(); });
document.addEventListener("visibilitychange", tellUntold);
draw();
tellUntold();
