import assert from "node:assert/strict";
import { test } from "node:test";

import { brokenInvariant } from "../src/batch.js";
import { transformer } from "../src/stage.js";

const batch = {
  groups: [{ topic: "", source: "", tags: [] }],
  keys: ["password", "user"],
  times: new Uint32Array([7, 8]),
  nanos: new Uint32Array(),
  logGroups: new Uint32Array([0, 0]),
  fieldEnds: new Uint32Array([2, 3]),
  fieldKeys: new Uint32Array([0, 1, 1]),
  valueEnds: new Uint32Array([6, 9, 12]),
  values: new TextEncoder().encode("secretannbob"),
};

test("drops fields by key", () => {
  const { batch: output } = transformer.Session.open("").push(batch);
  assert.equal(brokenInvariant(output), undefined);
  assert.deepEqual([...output.fieldEnds], [1, 2]);
  assert.equal(new TextDecoder().decode(output.values), "annbob");
});

test("rejects invalid setting and broken batch", () => {
  assert.throws(() => transformer.Session.open('{"drop": "a"}'), { tag: "invalid-config" });
  const session = transformer.Session.open("");
  assert.throws(() => session.push({ ...batch, values: new Uint8Array() }), { tag: "invalid-batch" });
});
