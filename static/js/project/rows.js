// Where each tile of the grid lies: rows from edge to edge, all tiles of a row of one height, each in its own shape. Arithmetic
// alone, so that nothing is measured while the page scrolls, a photo is moved to, or a box is drawn around many.

const TALLEST = 1.6; // a row with too little in it grows by at most so much, and ends before the edge

const inRow = (items, frame, height, top, left = 0) => items.map((item) => {
  const place = { id: item.id, left, top, width: item.ratio * height, height };
  left += place.width + frame.gap;
  return place;
});

// `items` are [{id, ratio: width / height}], `frame` is {width, size, gap} in pixels; size is the least height of a row. A tile of
// the ratio `lead`, which is no item, comes first.
export function layOut(items, frame, lead) {
  const rows = [];
  let waiting = [];
  let top = 0;
  const close = (last) => {
    const ratio = waiting.reduce((sum, item) => sum + item.ratio, 0);
    const fitted = (frame.width - frame.gap * (waiting.length - 1)) / ratio;
    const grows = !last && (waiting.length > 1 || waiting[0].id !== null); // the place to add photos does not
    const height = Math.min(fitted, frame.size * (grows ? TALLEST : 1));
    rows.push({ top, bottom: top + height, places: inRow(waiting, frame, height, top) });
    top += height + frame.gap;
    waiting = [];
  };
  let filled = 0;
  for (const item of [{ id: null, ratio: lead }, ...items]) {
    const wide = item.ratio * frame.size;
    if (waiting.length && filled + frame.gap + wide > frame.width) {
      close(false);
      filled = 0;
    }
    filled += (waiting.length ? frame.gap : 0) + wide;
    waiting.push(item);
  }
  if (waiting.length) close(true);
  return new Rows(rows, Math.max(0, top - frame.gap));
}

class Rows {
  constructor(rows, height) {
    this.rows = rows; // [{top, bottom, places}]
    this.height = height;
    this.lead = rows[0].places.shift(); // its place
    this.rowOf = new Map(); // id -> index of its row
    this.places = new Map(); // id -> {id, left, top, width, height}
    rows.forEach((row, at) => row.places.forEach((place) => { this.rowOf.set(place.id, at); this.places.set(place.id, place); }));
  }

  // The first row that ends below `y`; as many as there are rows when none does.
  at(y) {
    let [low, high] = [0, this.rows.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.rows[middle].bottom <= y) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  // Ids of the rows that lie between, in their order.
  between(top, bottom) {
    const found = [];
    for (let at = this.at(top); at < this.rows.length && this.rows[at].top < bottom; at += 1) found.push(...this.rows[at].places.map((place) => place.id));
    return found;
  }

  // The nearest middle in the next row, or the one before; null at the end.
  vertical(id, down) {
    const row = this.rows[this.rowOf.get(id) + (down ? 1 : -1)];
    const here = this.places.get(id);
    if (!row?.places.length || !here) return null;
    const distance = (place) => Math.abs(place.left + place.width / 2 - here.left - here.width / 2);
    return row.places.reduce((best, each) => (distance(each) < distance(best) ? each : best)).id;
  }

  // Ids that a box touches.
  within({ left, top, right, bottom }) {
    return this.between(top, bottom).filter((id) => {
      const place = this.places.get(id);
      return place.left < right && place.left + place.width > left;
    });
  }
}
