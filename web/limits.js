// How much a peer may make this page do.

/**
 * A token bucket: `capacity` at once, `perSecond` on average. With 60 and 5, somebody who was quiet may send 60 messages in
 * one breath and one every 200 ms from then on.
 */
export class Bucket {
  #capacity;
  #perSecond;
  #tokens;
  #at = performance.now();

  constructor(capacity, perSecond) {
    this.#capacity = capacity;
    this.#perSecond = perSecond;
    this.#tokens = capacity;
  }

  /** Takes `cost`, or nothing and is false where so much is not there. */
  take(cost = 1, now = performance.now()) {
    this.#tokens = Math.min(this.#capacity, this.#tokens + ((now - this.#at) / 1000) * this.#perSecond);
    this.#at = now;
    if (this.#tokens < cost) return false;
    this.#tokens -= cost;
    return true;
  }
}
