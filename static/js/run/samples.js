// What a run has drawn, by step and prompt. A step is there once one of its pictures is.

// The last of ascending `numbers` that is at most `limit`; undefined if there is none.
export function lastUpTo(numbers, limit) {
  let [low, high] = [0, numbers.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (numbers[middle] <= limit) low = middle + 1;
    else high = middle;
  }
  return numbers[low - 1];
}

export class Samples {
  constructor({ prompts, samples, every }) {
    this.prompts = prompts; // [{id, text}]
    this.every = every;
    this.drawn = new Map(); // step -> prompt -> sample
    this.steps = []; // ascending
    for (const sample of samples) this.add(sample.step, sample);
  }

  // False for a picture that is there already.
  add(step, sample) {
    if (!this.prompts.some(({ id }) => id === sample.prompt_id)) this.prompts.push({ id: sample.prompt_id, text: sample.prompt });
    const known = this.drawn.get(step) ?? new Map();
    if (known.get(sample.prompt_id)?.url === sample.url) return false;
    this.drawn.set(step, known.set(sample.prompt_id, { ...sample, step }));
    this.steps = [...this.drawn.keys()].sort((a, b) => a - b);
    return true;
  }

  // Samples after this step are void: the run resumed from it.
  rewind(step) {
    for (const known of this.steps) if (known > step) this.drawn.delete(known);
    this.steps = this.steps.filter((known) => known <= step);
  }

  get newest() {
    return this.steps.at(-1) ?? 0;
  }

  // The newest picture of a prompt at or before a step; else its first one; null without any.
  at(step, prompt) {
    const steps = this.steps.filter((known) => this.drawn.get(known).has(prompt));
    const found = lastUpTo(steps, step) ?? steps[0];
    return found === undefined ? null : this.drawn.get(found).get(prompt);
  }

  // The step with samples that is shown for any step: the newest at or before it.
  before(step) {
    return lastUpTo(this.steps, step) ?? this.steps[0] ?? 0;
  }

  nearest(step) {
    const low = this.before(step);
    const high = this.steps.find((known) => known > step);
    return high !== undefined && high - step < step - low ? high : low;
  }

  // The step one further (way 1) or one back (-1); the same one at the ends.
  beside(step, way) {
    const place = this.steps.indexOf(this.before(step)) + way;
    return this.steps[Math.max(0, Math.min(place, this.steps.length - 1))] ?? 0;
  }

  // The step of the next samples that come by themselves; null when none do.
  next(total) {
    if (!this.every || !this.prompts.length) return null;
    if (!this.steps.length) return 0;
    const step = Math.min((Math.floor(this.newest / this.every) + 1) * this.every, total);
    return step > this.newest ? step : null;
  }
}
