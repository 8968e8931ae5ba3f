import assert from "node:assert/strict";
import { test } from "node:test";

import { renderer } from "../src/stage.js";

const REQUEST = {
  rule: "to-lake",
  project: "acme-prod",
  logstore: "access",
  shard: 3,
  prefix: "logs",
  partitionFormat: "ds=%Y%m%d/%H",
  partitionTime: 1_484_913_043_351_525_351n,
  utcOffset: 28_800,
  creationTime: 1_484_913_043_351_525_351n,
  number: 2_850_008n,
  suffix: ".snappy.parquet",
};

const key = (config, changed = {}) => renderer.render(JSON.stringify(config), { ...REQUEST, ...changed });

const rejectedPath = (config, changed = {}) => {
  try {
    key(config, changed);
  } catch (error) {
    assert.equal(error.tag, "invalid-config");
    return error.val.path;
  }
  assert.fail("the setting was accepted");
};

test("key has the tenant's level before the partition", () => {
  assert.equal(
    key({ pattern: "^([a-z]+)-" }),
    "logs/tenant=acme/ds=20170120/19_1484913043351525351_2850008.snappy.parquet",
  );
  assert.equal(
    renderer.render("", REQUEST),
    "logs/tenant=acme-prod/ds=20170120/19_1484913043351525351_2850008.snappy.parquet",
  );
});

test("tenant may come from the name of the Logstore or the rule", () => {
  const changed = { logstore: "acme.access", prefix: "", partitionFormat: "" };
  const config = { from: "logstore", pattern: "^(\\w+)\\.", level: "customer" };
  assert.equal(key(config, changed), "customer=acme/1484913043351525351_2850008.snappy.parquet");
  assert.match(key({ from: "rule" }), /^logs\/tenant=to-lake\//);
});

test("name without a tenant gets the configured tenant", () => {
  assert.match(key({ pattern: "^([a-z]+):" }), /^logs\/tenant=unknown\//);
  assert.match(key({ otherwise: "files" }, { project: "" }), /^logs\/tenant=files\//);
});

test("tenant is always one level", () => {
  assert.match(key({}, { project: "a/../b c=(d)" }), /^logs\/tenant=a%2F..%2Fb%20c%3D%28d%29\//);
});

test("rejects invalid setting by path", () => {
  assert.equal(rejectedPath({ tenant: "acme" }), "tenant");
  assert.equal(rejectedPath({ from: "shard" }), "from");
  assert.equal(rejectedPath({ pattern: "(" }), "pattern");
  assert.equal(rejectedPath({ pattern: "^acme" }), "pattern");
  assert.equal(rejectedPath({ otherwise: "" }), "otherwise");
  assert.equal(rejectedPath({ level: "a=b" }), "level");
  assert.equal(rejectedPath([]), "");
  assert.equal(rejectedPath({}, { partitionFormat: "%Q" }), "partition-format");
  assert.equal(rejectedPath({}, { partitionFormat: "%Y/%" }), "partition-format");
  assert.equal(rejectedPath({}, { partitionFormat: "%Y//%m" }), "partition-format");
  for (const prefix of ["../a", "/a", "a//b", "\\a", "a\nb", "x".repeat(1023)]) {
    assert.equal(rejectedPath({}, { prefix }), "prefix", prefix);
  }
});
