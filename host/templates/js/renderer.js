// The stage `{{name}}`: `PREFIX/shard=N/PARTITION_ID` and the suffix, the key of an object.

import { parse } from "./settings.js";
import { partition } from "./partition.js";
import { Wrong } from "./wrong.js";

const SCHEMA = {
  type: "object",
  additionalProperties: false,
  properties: {
    level: { type: "string", pattern: "^[a-z]+$", default: "shard", description: "What stands before the number." },
  },
};

export const renderer = {
  describe() {
    return { name: "{{name}}", version: "0.1.0", configSchema: JSON.stringify(SCHEMA) };
  },

  render(config, request) {
    try {
      return key(parse(config, SCHEMA), request);
    } catch (error) {
      throw error instanceof Wrong ? error.refusal : error;
    }
  },
};

function key({ level = "shard" }, request) {
  if (typeof level !== "string" || !/^[a-z]+$/.test(level)) {
    throw new Wrong("level", "letters from a to z are wanted");
  }
  const prefix = request.prefix.replace(/\/$/, "");
  const time = partition(request);
  // Both are the task's own, so no two tasks have the same key.
  const id = `${request.creationTime}_${request.number}${request.suffix}`;
  const key = `${prefix && `${prefix}/`}${level}=${request.shard}/${time && `${time}_`}${id}`;
  // What no key may be: the host would refuse it, and does not know why it is so. A character has 4 bytes at most.
  const climbs = key.split("/").some((part) => ["", ".", ".."].includes(part));
  if (climbs || key.startsWith("\\") || /[\u0000-\u001f\u007f-\u009f]/.test(key) || 4 * key.length > 1023) {
    throw new Wrong("prefix", `${JSON.stringify(key.slice(0, 80))} can't be a key`);
  }
  return key;
}
