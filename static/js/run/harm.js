// The photos of the set by how their loss stands out, and what to do about one that does.

import { api, quietly } from "../lib/api.js";
import { $, copy, page, show, toast, write } from "../lib/dom.js";
import { onPress, onSubmit } from "../lib/forms.js";

const RUNNING = ["queued", "running"];
const room = (photo, tool = "") => `/projects/${page.dataset.project}#photo-${photo}${tool}`;
const percent = (relative) => (relative === null ? "–" : `${relative >= 1 ? "+" : "−"}${Math.round(100 * Math.abs(relative - 1))}%`);

export class Harm {
  // `state()` is the run's, `step()` the checkpoint that is in use, null before there is one.
  constructor(run, { photos, scores }, { state, step }) {
    Object.assign(this, { run, state, step });
    this.photos = new Map(photos.map((one) => [one.id, one]));
    this.dialog = $("#without-dialog");
    onSubmit($("#without-form"), (form, event) => this.trainOn(this.asked, event.submitter?.value === "stop"));
    this.update(scores);
  }

  update(scores) {
    const key = JSON.stringify([scores, [...this.photos.values()].map((one) => one.aside)]);
    if (this.key === key) return; // what somebody is about to press stays where it is
    Object.assign(this, { key, scores });
    const here = scores.filter((one) => this.photos.has(one.photo_id));
    const odd = here.filter((one) => one.outlier);
    const others = here.filter((one) => !one.outlier);
    write($("#harm-words"), this.words(here, odd));
    this.fill($("#odd-photos"), odd.map((one) => this.odd(one)));
    this.fill($("#other-photos"), others.map((one) => this.other(one)));
  }

  words(here, odd) {
    const known = here.filter((one) => !one.held_out && one.relative !== null);
    if (!known.length) return "A photo is compared with the others once it has been trained on five times.";
    if (odd.length) return `${odd.length === 1 ? "One stands out" : `${odd.length} stand out`}: the model learns ${odd.length === 1 ? "it" : "them"} far worse than the others.`;
    return known.length < 4 ? "With fewer than four photos none can stand out." : "None stands out. Percent: its loss against the others’.";
  }

  fill(list, items) {
    const at = list.contains(document.activeElement) ? [...list.querySelectorAll("a, button")].indexOf(document.activeElement) : -1;
    list.replaceChildren(...items);
    show(list, items.length > 0);
    list.querySelectorAll("a, button")[at]?.focus();
  }

  odd({ photo_id: id, words }) {
    const photo = this.photos.get(id);
    const item = copy("odd-template");
    $("img", item).src = photo.thumb_url;
    write($("h3", item), photo.name);
    write($("p", item), `Its loss is ${words}.${photo.aside ? " Set aside since: later runs do not train on it." : ""}`);
    for (const link of item.querySelectorAll("[data-look]")) Object.assign(link, { href: room(id), ariaLabel: `Open ${photo.name}` });
    Object.assign($("[data-recrop]", item), { href: room(id, "-crop"), ariaLabel: `Recrop ${photo.name}` });
    const aside = $("[data-aside]", item);
    write($("span", aside), photo.aside ? "Take back" : "Set aside");
    aside.setAttribute("aria-label", `${photo.aside ? "Take back" : "Set aside"} ${photo.name}`);
    const without = $("[data-without]", item);
    without.setAttribute("aria-label", `Train on without ${photo.name}`);
    const problem = $(".error", item);
    onPress(aside, () => this.setAside(photo, !photo.aside), problem);
    onPress(without, () => this.ask(photo), problem);
    return item;
  }

  other({ photo_id: id, held_out: unseen, relative, words }) {
    const photo = this.photos.get(id);
    const item = copy("other-template");
    const link = $("a", item);
    link.href = room(id);
    link.ariaLabel = `Open ${photo.name}: ${words}`;
    link.title = `${photo.name}: ${words}`;
    $("img", item).src = photo.thumb_url;
    write($("span", item), unseen ? "unseen" : percent(relative));
    return item;
  }

  async setAside(photo, aside) {
    await this.mark(photo, aside);
    const done = aside ? `${photo.name} is set aside.` : `${photo.name} is taken back.`;
    toast(done, { undo: "Undo", about: "aside" }).then((pressed) => pressed && quietly(this.mark(photo, !aside)));
  }

  async mark(photo, aside) {
    await api("PATCH", `/photos/${photo.id}`, { aside });
    photo.aside = aside;
    this.update(this.scores);
  }

  // One press, but for a run that has not ended: what becomes of that is asked first.
  async ask(photo) {
    if (!RUNNING.includes(this.state())) return this.trainOn(photo, false);
    const { words, problems } = await api("POST", `/runs/${this.run}/without/check`, this.body(photo));
    if (problems.length) throw Object.assign(new Error(problems.map((one) => one.message).join(" ")), { problems: [] });
    this.asked = photo;
    write($("#without-title"), `Train on without ${photo.name}?`);
    write($("#without-words"), words);
    this.dialog.showModal();
    return null;
  }

  body(photo) {
    return { photo_ids: [photo.id], step: this.step() };
  }

  async trainOn(photo, stop) {
    const run = await api("POST", `/runs/${this.run}/without`, { ...this.body(photo), stop });
    location.assign(`/runs/${run.id}`);
  }
}
