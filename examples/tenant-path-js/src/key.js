// Makes the key of an object.

import { partition } from "./partition.js";
import { InvalidSetting } from "./invalid-setting.js";

const MAX_KEY_BYTES = 1023;

/** Returns `PREFIX/tenant=TENANT/PARTITION_ID` followed by the suffix. */
export function render(config, request) {
  const level = `${config.level}=${escape(tenant(config, request))}`;
  const time = partition(request);
  // Both identify the task, so no two tasks have the same key.
  const id = `${request.creationTime}_${request.number}`;
  const name = (time ? `${time}_${id}` : id) + request.suffix;
  const prefix = request.prefix.replace(/\/$/, "");
  check(prefix, "prefix");
  check(time, "partition-format");
  const key = (prefix ? `${prefix}/` : "") + `${level}/${name}`;
  if (utf8Length(key) > MAX_KEY_BYTES) {
    throw new InvalidSetting("prefix", `the key has more than ${MAX_KEY_BYTES} bytes; shorten the prefix`);
  }
  return key;
}

function tenant({ from, pattern, otherwise }, request) {
  return pattern.exec(request[from])?.[1] || otherwise;
}

/** Escapes a level's value as Hive does: characters that are not allowed become %XX. */
function escape(value) {
  return encodeURIComponent(value.toWellFormed()).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
}

function check(part, path) {
  if (/[\u0000-\u001f\u007f-\u009f]/.test(part)) {
    throw new InvalidSetting(path, "must not contain control characters");
  }
  if (part.startsWith("\\")) {
    throw new InvalidSetting(path, "must not begin with \\");
  }
  if (part && part.split("/").some((level) => ["", ".", ".."].includes(level))) {
    throw new InvalidSetting(path, "must not contain empty, `.` or `..` levels");
  }
}

/** Returns the length of a text in UTF-8 bytes. */
function utf8Length(text) {
  let count = 0;
  for (const character of text) {
    const code = character.codePointAt(0);
    count += code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  }
  return count;
}
