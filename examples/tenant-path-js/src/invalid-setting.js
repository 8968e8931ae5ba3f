/** An invalid setting of the rule: its path and the problem. */
export class InvalidSetting extends Error {
  constructor(path, reason) {
    super(`${path}: ${reason}`);
    this.path = path;
    this.reason = reason;
  }

  /** Returns the error as the contract defines it. */
  get witError() {
    return { tag: "invalid-config", val: { path: this.path, reason: this.reason } };
  }
}
