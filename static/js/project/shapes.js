// What of a photo is trained: core/dataset/buckets.py, crops.py and subject_crops.py, which decide, once more for the page.
// tests/e2e/test_shapes.py holds both to the same cases. A box is {left, top, right, bottom} in fractions of the photo.

const SURE_ENOUGH = 0.6; // of a subject that was found, to keep it in the crop; a person's box always counts
const MARGIN = 0.3; // of the subject's longer side, on each side
const WHOLE_SHARE = 0.9; // a default crop is at least this long a side, relative to the largest
const SMALL_SHARE = 0.42; // of the default crop's area: a subject that fills less is worth a close-up
const CLOSE_SIDE_PX = 256; // a close-up of fewer pixels would only be an enlargement

export const WHOLE = { left: 0, top: 0, right: 1, bottom: 1 };
const clamp = (value, low, high) => Math.min(Math.max(value, low), Math.max(low, high));
const area = (box) => (box.right - box.left) * (box.bottom - box.top);
export const aspectOf = ([width, height]) => width / height;
export const boxFrom = (sides) => (Array.isArray(sides) ? { left: sides[0], top: sides[1], right: sides[2], bottom: sides[3] } : sides);

// The bucket, [width, height], whose aspect is nearest to that of the photo or its crop; the first one of equals.
export function closest(buckets, width, height, box = WHOLE) {
  const aspect = Math.log((box.right - box.left) * width) - Math.log((box.bottom - box.top) * height);
  const distance = (bucket) => Math.abs(Math.log(aspectOf(bucket)) - aspect);
  return buckets.reduce((best, each) => (distance(each) < distance(best) ? each : best));
}

// A box in pixels as one in fractions.
function fractions(x, y, wide, high, width, height) {
  return { left: Math.max(x / width, 0), top: Math.max(y / height, 0), right: Math.min((x + wide) / width, 1), bottom: Math.min((y + high) / height, 1) };
}

// The largest box of this aspect inside `box`, around its centre.
export function inside(width, height, aspect, box = WHOLE) {
  const [left, right, top, bottom] = [box.left * width, box.right * width, box.top * height, box.bottom * height];
  const wide = Math.min(Math.max(Math.min(right - left, (bottom - top) * aspect), Math.max(1, aspect)), width, height * aspect);
  const high = wide / aspect;
  const x = clamp((left + right - wide) / 2, 0, width - wide);
  const y = clamp((top + bottom - high) / 2, 0, height - high);
  return fractions(x, y, wide, high, width, height);
}

// The crop that keeps the subject: its box and a margin, but at least `share` of the largest box of this aspect.
export function subjectCrop(subject, width, height, aspect, share = WHOLE_SHARE) {
  const widest = Math.min(width, height * aspect);
  const [left, right, top, bottom] = [subject.left * width, subject.right * width, subject.top * height, subject.bottom * height];
  const room = MARGIN * Math.max(right - left, bottom - top);
  const needed = Math.max(right - left + 2 * room, (bottom - top + 2 * room) * aspect);
  const wide = Math.min(Math.max(needed, share * widest), widest);
  const high = wide / aspect;
  const x = clamp((left + right - wide) / 2, 0, width - wide);
  const y = clamp((top + bottom - high) / 2, 0, height - high);
  return fractions(x, y, wide, high, width, height);
}

// A second, tight crop; null where the default crop is close already, or the subject has too few pixels.
export function closeUp(subject, width, height, aspect) {
  const first = subjectCrop(subject, width, height, aspect);
  if (area(subject) >= SMALL_SHARE * area(first)) return null;
  const tight = subjectCrop(subject, width, height, aspect, 0);
  const sides = [(tight.right - tight.left) * width, (tight.bottom - tight.top) * height];
  return Math.min(...sides) < CLOSE_SIDE_PX || area(tight) > 0.7 * area(first) ? null : tight;
}

// The subject's box that a default crop keeps, or null.
export function subjectOf(photo) {
  const { box, source, sure } = photo.subject ?? {};
  return box && (source === "you" || sure >= SURE_ENOUGH) ? boxFrom(box) : null;
}

// The crop without a choice of the user's: around the subject, or the middle.
export function defaultCrop(photo, buckets) {
  const bucket = closest(buckets, photo.width, photo.height);
  const subject = subjectOf(photo);
  const box = subject ? subjectCrop(subject, photo.width, photo.height, aspectOf(bucket)) : inside(photo.width, photo.height, aspectOf(bucket));
  return { box, bucket };
}

// Every training picture of a photo: [{box, bucket}], the boxes in the exact shape of their buckets.
export function trained(photo, buckets) {
  const crops = photo.crops ?? (photo.crop ? [photo.crop] : []);
  if (!crops.length) return [defaultCrop(photo, buckets)];
  return crops.map((crop) => {
    const bucket = closest(buckets, photo.width, photo.height, crop);
    return { box: inside(photo.width, photo.height, aspectOf(bucket), crop), bucket };
  });
}

// The shape of a picture that is cut out of the photo by this box: width / height.
export const shapeOf = (photo, box) => ((box.right - box.left) * photo.width) / ((box.bottom - box.top) * photo.height);

// For CSS (.pic): where the box lies in the photo, its shape, and the photo's.
export function place(element, photo, box) {
  const values = { l: box.left, t: box.top, w: box.right - box.left, h: box.bottom - box.top, r: shapeOf(photo, box), pr: photo.width / photo.height };
  for (const [name, value] of Object.entries(values)) element.style.setProperty(`--${name}`, value.toFixed(5));
}
