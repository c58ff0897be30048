// On every page: the bell, whether the studio answers, dropped files that the browser does not open, dialogs that open and close, menus
// that close when the user leaves them.

import "./bell.js";
import "./files.js";
import "./server.js";
import { $, $$ } from "./dom.js";

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-open]");
  if (opener) {
    const dialog = document.getElementById(opener.dataset.open);
    dialog.showModal();
    dialog.dispatchEvent(new Event("opened"));
  }
  const closer = event.target.closest("[data-close]");
  if (closer) closer.closest("dialog").close();
  if (event.target instanceof HTMLDialogElement) event.target.close(); // a click on the backdrop
  for (const menu of $$("details.menu[open]")) {
    const inside = menu.contains(event.target);
    if (!inside || event.target.closest(".menu-list .button")) menu.open = false;
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const menu = $("details.menu[open]");
  if (menu) {
    menu.open = false;
    $("summary", menu).focus();
  }
});

for (const menu of $$("details.menu")) {
  menu.addEventListener("focusout", (event) => {
    if (event.relatedTarget && !menu.contains(event.relatedTarget)) menu.open = false;
  });
}
