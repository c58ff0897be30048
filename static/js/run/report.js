// Whether the report of the run holds the photos: never unless this is ticked, each time anew.

import { $ } from "../lib/dom.js";

const tick = $("#report-photos");
const link = $("#report-file");
const plain = link.getAttribute("href");
tick.addEventListener("change", () => link.setAttribute("href", tick.checked ? `${plain}?photos=true` : plain));
$("#report-run").addEventListener("opened", () => { tick.checked = false; link.setAttribute("href", plain); });
