// The loss and the learning rate of each step, in arrays by step. A step that comes last, as most do, costs the same however
// many there are; the smoothed line is computed from the first change on.

// Exponential moving average with bias correction: m = (1 - w) sum w^i x_(n-i) / (1 - w^n).
export class Curve {
  constructor(weight) {
    this.weight = weight;
    this.clear();
  }

  clear() {
    Object.assign(this, { steps: [], losses: [], rates: [], smooth: [], means: [], masses: [], known: 0 });
  }

  set(points, rates) {
    const rateOf = new Map(rates);
    for (const [step, value] of points) this.push(step, value, rateOf.get(step) ?? null);
  }

  push(step, value, rate = null) {
    if (value === null || value === undefined) return;
    const last = this.steps.length - 1;
    const place = last < 0 || this.steps[last] < step ? last + 1 : this.search(step);
    const isNew = this.steps[place] !== step;
    for (const [column, number] of [[this.steps, step], [this.losses, value], [this.rates, rate]]) {
      if (isNew) column.splice(place, 0, number);
      else column[place] = number;
    }
    this.known = Math.min(this.known, place);
  }

  // The place of the first step that is not below `step`.
  search(step) {
    let [low, high] = [0, this.steps.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.steps[middle] < step) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  rewind(step) {
    const length = this.search(step + 1);
    for (const column of [this.steps, this.losses, this.rates]) column.length = length;
    this.known = Math.min(this.known, length);
  }

  setWeight(weight) {
    this.weight = weight;
    this.known = 0;
  }

  // [steps, losses, smoothed losses, learning rates]
  rows() {
    const { weight, losses, means, masses, smooth } = this;
    let mean = this.known ? means[this.known - 1] : 0;
    let mass = this.known ? masses[this.known - 1] : 0;
    for (let place = this.known; place < losses.length; place += 1) {
      means[place] = mean = weight * mean + (1 - weight) * losses[place];
      masses[place] = mass = weight * mass + (1 - weight);
      smooth[place] = mean / mass;
    }
    for (const column of [means, masses, smooth]) column.length = losses.length;
    this.known = losses.length;
    return [this.steps, losses, smooth, this.rates];
  }
}
