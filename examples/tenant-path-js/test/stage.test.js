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

const refused = (config, changed = {}) => {
  try {
    key(config, changed);
  } catch (error) {
    assert.equal(error.tag, "invalid-config");
    return error.val.path;
  }
  assert.fail("it was taken");
};

test("the tenant is a level of the key, and the partition follows", () => {
  assert.equal(
    key({ pattern: "^([a-z]+)-" }),
    "logs/tenant=acme/ds=20170120/19_1484913043351525351_2850008.snappy.parquet",
  );
  assert.equal(
    renderer.render("", REQUEST),
    "logs/tenant=acme-prod/ds=20170120/19_1484913043351525351_2850008.snappy.parquet",
  );
});

test("the tenant may be in the name of the logstore or of the rule", () => {
  const changed = { logstore: "acme.access", prefix: "", partitionFormat: "" };
  const config = { from: "logstore", pattern: "^(\\w+)\\.", level: "customer" };
  assert.equal(key(config, changed), "customer=acme/1484913043351525351_2850008.snappy.parquet");
  assert.match(key({ from: "rule" }), /^logs\/tenant=to-lake\//);
});

test("a name without a tenant has the one of the configuration", () => {
  assert.match(key({ pattern: "^([a-z]+):" }), /^logs\/tenant=unknown\//);
  assert.match(key({ otherwise: "files" }, { project: "" }), /^logs\/tenant=files\//);
});

test("a tenant is one level, whatever its name", () => {
  assert.match(key({}, { project: "a/../b c=(d)" }), /^logs\/tenant=a%2F..%2Fb%20c%3D%28d%29\//);
});

test("a setting that does not serve is named", () => {
  assert.equal(refused({ tenant: "acme" }), "tenant");
  assert.equal(refused({ from: "shard" }), "from");
  assert.equal(refused({ pattern: "(" }), "pattern");
  assert.equal(refused({ pattern: "^acme" }), "pattern");
  assert.equal(refused({ otherwise: "" }), "otherwise");
  assert.equal(refused({ level: "a=b" }), "level");
  assert.equal(refused([]), "");
  assert.equal(refused({}, { partitionFormat: "%Q" }), "partition-format");
  assert.equal(refused({}, { partitionFormat: "%Y/%" }), "partition-format");
  assert.equal(refused({}, { partitionFormat: "%Y//%m" }), "partition-format");
  for (const prefix of ["../a", "/a", "a//b", "\\a", "a\nb", "x".repeat(1023)]) {
    assert.equal(refused({}, { prefix }), "prefix", prefix);
  }
});
