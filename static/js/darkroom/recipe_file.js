// The recipe in a picture's own file: a PNG that Likeness drew carries it as text, so a dropped picture fills the form.

import { ApiError, api } from "../lib/api.js";
import { toast } from "../lib/dom.js";
import { takeFiles } from "../lib/files.js";

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const KEYWORD = "recipe";

// The text of a PNG under a keyword, of its tEXt chunks; null where there is none.
export function textOf(bytes, keyword) {
  if (SIGNATURE.some((value, at) => bytes[at] !== value)) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const latin = new TextDecoder("latin1");
  for (let at = SIGNATURE.length; at + 12 <= bytes.length;) {
    const length = view.getUint32(at);
    const kind = latin.decode(bytes.subarray(at + 4, at + 8));
    const content = bytes.subarray(at + 8, at + 8 + length);
    const end = content.indexOf(0);
    if (kind === "tEXt" && latin.decode(content.subarray(0, end)) === keyword) return latin.decode(content.subarray(end + 1));
    if (kind === "IEND") return null;
    at += 12 + length;
  }
  return null;
}

async function recipeOf(file) {
  const text = textOf(new Uint8Array(await file.arrayBuffer()), KEYWORD);
  if (text === null) return null;
  try {
    const recipe = JSON.parse(text);
    return recipe && typeof recipe === "object" && !Array.isArray(recipe) ? recipe : null;
  } catch {
    return null;
  }
}

async function useRecipe(file, fillIn) {
  const recipe = await recipeOf(file);
  if (!recipe) {
    toast(`${file.name} carries no recipe: only pictures that Likeness drew and that nobody has saved anew do.`);
    return;
  }
  try {
    const form = await api("POST", "/recipes", recipe);
    fillIn(form);
    toast(`The recipe of ${file.name} is in the form. Draw draws the picture again.`);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    toast([error.message, ...error.problems.map((one) => `Its ${one.field} ${one.message}.`)].join(" "), { seconds: 12 });
  }
}

// A picture gives its recipe, an adapter's file is imported.
export function takeDropped(fillIn, importFiles) {
  takeFiles((files) => {
    const pictures = files.filter((file) => /\.png$/i.test(file.name));
    if (pictures.length) useRecipe(pictures[0], fillIn);
    else importFiles(files);
  }, []);
}
