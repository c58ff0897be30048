// Whether the studio answers. A page in view asks it every BEAT_MS. Where the connection is refused (it has ended) or no
// answer comes within PATIENCE_MS (it hangs), the page says so, after at most the sum of both; it goes on asking, and goes
// on by itself once an answer comes. A page that is out of view asks nothing.

import { toast } from "./dom.js";

const BEAT_MS = 1500; // between an answer and the next question
const PATIENCE_MS = 2500;
const BEAT_GONE_MS = 700; // while there is no answer

const banner = document.getElementById("gone");
const handlers = { gone: [], back: [] };
let gone = false;
let leaving = false;
let asking = false;
let timer = null;

// `act` is called when the studio has stopped answering, and when it answers again.
export const onGone = (act) => handlers.gone.push(act);
export const onBack = (act) => handlers.back.push(act);

// Resolves once the studio answers again; at once while it does.
export const whenBack = () => new Promise((resolve) => (gone ? handlers.back.push(resolve) : resolve()));

async function answers() {
  try {
    await fetch("/api/alive", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
    return true; // with any status
  } catch {
    return false;
  }
}

function report(up) {
  if (gone === !up) return;
  gone = !up;
  if (gone) banner.showPopover(); // above an open dialog too
  else banner.hidePopover();
  if (!gone) toast("Likeness answers again.");
  for (const act of handlers[gone ? "gone" : "back"]) act();
}

// Ask now. Whoever sees a request fail calls it, so that nobody waits for the next beat.
export async function check() {
  if (asking || leaving || document.hidden) return;
  clearTimeout(timer);
  asking = true;
  const up = await answers();
  asking = false;
  if (leaving || document.hidden) return; // the browser has cut the request off itself
  report(up);
  timer = setTimeout(check, up ? BEAT_MS : BEAT_GONE_MS);
}

document.addEventListener("visibilitychange", check);
addEventListener("pagehide", () => { leaving = true; });
addEventListener("pageshow", () => { leaving = false; check(); });
check();
