// SHA-256 (FIPS 180-4) of what comes piece by piece. The browser's own takes a file as a whole, and only over HTTPS.

const K = new Uint32Array(64), FIRST = new Uint32Array(8);
(function fill() { // the first 32 bits of the fractions of cube roots, and of square roots, of the first primes
  for (let n = 2, at = 0; at < 64; n++) {
    let prime = true;
    for (let d = 2; d * d <= n; d++) prime &&= n % d !== 0;
    if (!prime) continue;
    if (at < 8) FIRST[at] = (Math.sqrt(n) % 1) * 2 ** 32;
    K[at++] = (Math.cbrt(n) % 1) * 2 ** 32;
  }
})();

export class Sha256 {
  #state = FIRST.slice();
  #words = new Int32Array(64);
  #rest = new Uint8Array(64);
  #held = 0; // bytes in #rest
  #size = 0;

  // Takes the next bytes, a Uint8Array.
  add(bytes) {
    this.#size += bytes.length;
    let at = 0;
    if (this.#held) {
      at = Math.min(64 - this.#held, bytes.length);
      this.#rest.set(bytes.subarray(0, at), this.#held);
      this.#held += at;
      if (this.#held < 64) return this;
      this.#block(this.#rest, 0);
      this.#held = 0;
    }
    for (; at + 64 <= bytes.length; at += 64) this.#block(bytes, at);
    this.#rest.set(bytes.subarray(at));
    this.#held = bytes.length - at;
    return this;
  }

  // Ends it, and returns 32 bytes.
  digest() {
    const size = this.#size, end = new Uint8Array(((this.#held + 72) & ~63) - this.#held);
    end[0] = 0x80;
    new DataView(end.buffer).setBigUint64(end.length - 8, BigInt(size) * 8n);
    this.add(end);
    const found = new DataView(new ArrayBuffer(32));
    this.#state.forEach((word, at) => found.setUint32(4 * at, word));
    return new Uint8Array(found.buffer);
  }

  #block(bytes, at) {
    const w = this.#words, h = this.#state;
    for (let i = 0; i < 16; i++, at += 4) w[i] = (bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3];
    for (let i = 16; i < 64; i++) {
      const a = w[i - 15], b = w[i - 2];
      const s0 = ((a >>> 7) | (a << 25)) ^ ((a >>> 18) | (a << 14)) ^ (a >>> 3);
      const s1 = ((b >>> 17) | (b << 15)) ^ ((b >>> 19) | (b << 13)) ^ (b >>> 10);
      w[i] = (w[i - 16] + s0 + w[i - 7] + s1) | 0;
    }
    let [a, b, c, d, e, f, g, k] = h;
    for (let i = 0; i < 64; i++) {
      const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
      const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
      const t = (k + s1 + ((e & f) ^ (~e & g)) + K[i] + w[i]) | 0, u = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      (k = g), (g = f), (f = e), (e = (d + t) | 0), (d = c), (c = b), (b = a), (a = (t + u) | 0);
    }
    [a, b, c, d, e, f, g, k].forEach((word, i) => (h[i] += word));
  }
}

export const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
