import assert from "node:assert/strict";
import { test } from "node:test";

import { renderer } from "../src/stage.js";

const REQUEST = {
  rule: "to-lake",
  project: "shop",
  logstore: "access",
  shard: 3,
  prefix: "logs",
  partitionFormat: "ds=%Y%m%d/%H",
  partitionTime: 1_484_913_043_351_525_351n,
  utcOffset: 28_800,
  creationTime: 1_484_913_043_351_525_351n,
  number: 7n,
  suffix: ".csv",
};

test("key has shard and partition", () => {
  assert.equal(renderer.render("", REQUEST), "logs/shard=3/ds=20170120/19_1484913043351525351_7.csv");
});

test("rejects invalid keys", () => {
  const rejected = { tag: "invalid-config" };
  assert.throws(() => renderer.render("", { ...REQUEST, prefix: "../a" }), rejected);
  assert.throws(() => renderer.render('{"level": 1}', REQUEST), rejected);
});
