// Two pictures over one another in a `.plate` (css/run.css), of which a range shows so much of the one and the rest of the other.

import { $$ } from "./dom.js";

// Move the wipe of every plate in `box`: `share` of the other picture is seen, in percent.
export function setWipe(box, share) {
  box.style.setProperty("--wipe", `${share}%`);
  for (const input of $$(".wipe", box)) {
    input.value = share;
    input.setAttribute("aria-valuetext", `${share}% of ${input.dataset.other || "the same picture"}`);
  }
  box.classList.toggle("parked", share === 0);
}

// Set only what changes: a source that is set again is loaded again.
export function setImage(image, url, alt) {
  if (image.getAttribute("src") !== url) image.src = url;
  if (image.alt !== alt) image.alt = alt;
}
