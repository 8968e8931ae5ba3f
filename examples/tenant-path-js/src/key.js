// The key of an object.

import { partition } from "./partition.js";
import { Wrong } from "./wrong.js";

const LONGEST = 1023;

/** `PREFIX/tenant=TENANT/PARTITION_ID` and the suffix. */
export function render(config, request) {
  const level = `${config.level}=${escape(tenant(config, request))}`;
  const time = partition(request);
  // Both are the task's own, so no two tasks have the same key.
  const id = `${request.creationTime}_${request.number}`;
  const name = (time ? `${time}_${id}` : id) + request.suffix;
  const prefix = request.prefix.replace(/\/$/, "");
  check(prefix, "prefix");
  check(time, "partition-format");
  const key = (prefix ? `${prefix}/` : "") + `${level}/${name}`;
  if (bytes(key) > LONGEST) {
    throw new Wrong("prefix", `the key would have more than ${LONGEST} bytes`);
  }
  return key;
}

function tenant({ from, pattern, otherwise }, request) {
  return pattern.exec(request[from])?.[1] || otherwise;
}

/** As Hive does it: what may not stand in a level's value is written as %XX. */
function escape(value) {
  return encodeURIComponent(value.toWellFormed()).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
}

function check(part, path) {
  if (/[\u0000-\u001f\u007f-\u009f]/.test(part)) {
    throw new Wrong(path, "a control character may not stand in a key");
  }
  if (part.startsWith("\\")) {
    throw new Wrong(path, "a key may not begin with \\");
  }
  if (part && part.split("/").some((level) => ["", ".", ".."].includes(level))) {
    throw new Wrong(path, "a key may have no empty level, nor `.` or `..`");
  }
}

/** Bytes of a text as UTF-8. */
function bytes(text) {
  let count = 0;
  for (const character of text) {
    const code = character.codePointAt(0);
    count += code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  }
  return count;
}
