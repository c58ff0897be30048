// The class pictures of a run, live. Each has a number; they are drawn in that order.

import { $, copy, show } from "../lib/dom.js";
import { openLightbox } from "../lib/lightbox.js";

const HINT = "Arrow keys: left and right through the class pictures";

export class ClassPictures {
  constructor(box) {
    this.box = box;
    box.addEventListener("click", (event) => {
      const button = event.target.closest("[data-number]");
      if (button) openLightbox(button, (from, way) => this.neighbour(from, way), HINT);
    });
  }

  add({ prompt_id: number, prompt, url }) {
    if ($(`[data-number="${number}"]`, this.box)) return;
    const button = copy("class-picture-template");
    button.dataset.number = number;
    Object.assign($("img", button), { alt: `Class picture ${number + 1}: ${prompt}`, src: url });
    this.box.append(button);
    show($("#no-class-pictures"), false);
  }

  neighbour(button, way) {
    return { left: button.previousElementSibling, right: button.nextElementSibling }[way] ?? null;
  }
}
