/** Something of the rule that does not serve: the path of the offending member, and why. */
export class Wrong extends Error {
  constructor(path, reason) {
    super(`${path}: ${reason}`);
    this.path = path;
    this.reason = reason;
  }

  /** As the contract has it. */
  get refusal() {
    return { tag: "invalid-config", val: { path: this.path, reason: this.reason } };
  }
}
