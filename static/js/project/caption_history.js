// Earlier captions of a photo, to be used again.

import { api } from "../lib/api.js";
import { show } from "../lib/dom.js";
import { attempt, room } from "./state.js";

function item(...parts) {
  const one = document.createElement("li");
  one.append(...parts);
  return one;
}

function choice(photo, each, list) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = each.text || "(no caption)";
  button.title = `${each.origin === "user" ? "Yours" : each.origin}, ${new Date(each.at).toLocaleString()}. Press to use it again.`;
  button.onclick = async () => {
    const restored = await attempt(() => room.inOrder(() => api("POST", `/photos/${photo}/captions/${each.id}/restore`)));
    if (restored) room.put([restored]);
    show(list, false);
  };
  return item(button);
}

// Show them in `list`, or hide it; `still(id)` says whether it is about this photo once they are there.
export async function toggleEarlier(list, id, still = () => true) {
  if (!list.hidden) { show(list, false); return; }
  const history = await attempt(() => api("GET", `/photos/${id}/captions`));
  if (!history || !still(id)) return;
  const now = room.photos.get(id)?.caption ?? "";
  const items = history.filter((each) => each.text !== now).map((each) => choice(id, each, list));
  const none = item("There are no earlier captions.");
  none.className = "quiet small";
  list.replaceChildren(...(items.length ? items : [none]));
  show(list);
}
