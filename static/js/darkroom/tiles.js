// The parts of the gallery as elements: a picture, a place where one will be, and the line above those of a drawing.

import { icon } from "../lib/dom.js";

export function element(name, className, text = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

export function button(words, sign, name, label) {
  const made = element("button", "button bare");
  made.type = "button";
  made.dataset[name] = "";
  if (label) Object.assign(made, { ariaLabel: label, title: words });
  made.append(icon(sign), element("span", "", words));
  return made;
}

// What tells a picture from the others of its drawing: its strength, its seed, or both.
export function tagOf(drawing, each) {
  const all = [...drawing.pictures, ...drawing.to_come];
  const [labels, seeds] = [new Set(all.map(({ label }) => label)), new Set(all.map(({ seed }) => seed))];
  const words = [];
  if (labels.size > 1 || (drawing.form.adapters?.length && each.label !== "1")) words.push(each.label);
  if (seeds.size > 1) words.push(`seed ${each.seed}`);
  return words.join(", ");
}

function shaped(className, width, height) {
  const item = element("li", className);
  item.style.setProperty("--ratio", width && height ? width / height : 1);
  return item;
}

export function pictureTile(drawing, picture) {
  const item = shaped("picture", picture.width, picture.height);
  const press = element("button", "");
  press.type = "button";
  press.dataset.picture = picture.id;
  press.tabIndex = -1;
  press.setAttribute("aria-label", `${picture.prompt || drawing.prompt}, ${picture.label}, seed ${picture.seed}${picture.favourite ? ", favourite" : ""}`);
  const image = element("img", "");
  Object.assign(image, { loading: "lazy", decoding: "async", alt: "", width: picture.width, height: picture.height, draggable: false });
  image.src = picture.thumb_url;
  press.append(image);
  const tag = tagOf(drawing, picture);
  if (tag) press.append(element("span", "tag", tag));
  if (picture.favourite) {
    const sign = element("span", "loved");
    sign.append(icon("heart"));
    press.append(sign);
  }
  item.append(press);
  return item;
}

export function placeTile(drawing, place, isFirst) {
  const item = shaped("picture waits", drawing.width, drawing.height);
  const now = isFirst && drawing.state === "running";
  item.append(element("span", "small", [tagOf(drawing, place), now ? "is drawn" : "waits"].filter(Boolean).join(" ")));
  if (now) item.classList.add("now");
  return item;
}

// The prompt, how far the drawing is, and what can be done with it.
export function drawingHead(drawing, count) {
  const head = element("header", "drawing-head");
  const words = element("p", "small quiet");
  const state = element("span", "", drawing.words);
  state.dataset.words = "";
  const counted = drawing.can_stop || count < 2 ? "" : ` · ${count} pictures`;
  words.append(state, `${counted} · ${drawing.drawn_with}`);
  words.title = words.textContent;
  const row = element("div", "row");
  if (drawing.can_stop) row.append(button("Stop", "stop", "stop", `Stop: ${drawing.prompt}`));
  if (drawing.error) row.append(button("Dismiss", "close", "dismiss", `Dismiss: ${drawing.prompt}`));
  if (drawing.grid) row.append(button("Open the grid", "grid", "openGrid", `Open the grid: ${drawing.prompt}`));
  else row.append(button("Use again", "brush", "use", `Use again: ${drawing.prompt}`));
  const title = element("h3", "", drawing.prompt);
  title.title = drawing.prompt;
  head.append(title, words, row);
  return head;
}
