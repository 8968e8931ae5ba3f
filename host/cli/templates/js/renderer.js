// The stage `{{name}}`: makes the key of an object, `PREFIX/shard=N/PARTITION_ID` followed by the suffix.

import { parse } from "./settings.js";
import { partition } from "./partition.js";
import { InvalidSetting } from "./invalid-setting.js";

const SCHEMA = {
  type: "object",
  additionalProperties: false,
  properties: {
    level: { type: "string", pattern: "^[a-z]+$", default: "shard", description: "The name before the number." },
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
      throw error instanceof InvalidSetting ? error.witError : error;
    }
  },
};

function key({ level = "shard" }, request) {
  if (typeof level !== "string" || !/^[a-z]+$/.test(level)) {
    throw new InvalidSetting("level", "must be letters from a to z");
  }
  const prefix = request.prefix.replace(/\/$/, "");
  const time = partition(request);
  // Both identify the task, so no two tasks have the same key.
  const id = `${request.creationTime}_${request.number}${request.suffix}`;
  const key = `${prefix && `${prefix}/`}${level}=${request.shard}/${time && `${time}_`}${id}`;
  // The host rejects such keys too, but cannot say why they are made. A character has at most 4 bytes.
  const hasInvalidLevel = key.split("/").some((part) => ["", ".", ".."].includes(part));
  if (hasInvalidLevel || key.startsWith("\\") || /[\u0000-\u001f\u007f-\u009f]/.test(key) || 4 * key.length > 1023) {
    throw new InvalidSetting("prefix", `${JSON.stringify(key.slice(0, 80))} is not a valid key`);
  }
  return key;
}
