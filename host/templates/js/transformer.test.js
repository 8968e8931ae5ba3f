import assert from "node:assert/strict";
import { test } from "node:test";

import { broken } from "../src/batch.js";
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

test("fields are left out by key", () => {
  const { batch: left } = transformer.Session.open("").push(batch);
  assert.equal(broken(left), undefined);
  assert.deepEqual([...left.fieldEnds], [1, 2]);
  assert.equal(new TextDecoder().decode(left.values), "annbob");
});

test("a wrong setting and a broken batch are refused", () => {
  assert.throws(() => transformer.Session.open('{"drop": "a"}'), { tag: "invalid-config" });
  const session = transformer.Session.open("");
  assert.throws(() => session.push({ ...batch, values: new Uint8Array() }), { tag: "invalid-batch" });
});
