// The configuration: JSON, validated before a key is made.

import { parse as settings } from "./settings.js";
import { InvalidSetting } from "./invalid-setting.js";

const SOURCES = ["project", "logstore", "rule"];

export const SCHEMA = {
  $schema: "https://json-schema.org/draft/2020-12/schema",
  type: "object",
  additionalProperties: false,
  properties: {
    from: { enum: SOURCES, default: "project", description: "The name that contains the tenant." },
    pattern: {
      type: "string",
      default: "^(.+)$",
      description: "A JavaScript regular expression. Its first group is the tenant.",
    },
    otherwise: {
      type: "string",
      minLength: 1,
      default: "unknown",
      description: "The tenant for names that the pattern does not match.",
    },
    level: {
      type: "string",
      pattern: "^[a-z][a-z0-9_]*$",
      default: "tenant",
      description: "The name before the `=`.",
    },
  },
};

/** Parses a configuration from JSON text; the empty text means `{}`. */
export function parse(text) {
  const { from = "project", pattern = "^(.+)$", otherwise = "unknown", level = "tenant" } = settings(text, SCHEMA);
  if (!SOURCES.includes(from)) {
    throw new InvalidSetting("from", `must be one of ${SOURCES.join(", ")}`);
  }
  if (typeof otherwise !== "string" || otherwise === "") {
    throw new InvalidSetting("otherwise", "must be a non-empty string");
  }
  if (typeof level !== "string" || !/^[a-z][a-z0-9_]*$/.test(level)) {
    throw new InvalidSetting("level", "must be a name of a-z, 0-9 and _, beginning with a letter");
  }
  return { from, pattern: expression(pattern), otherwise, level };
}

function expression(pattern) {
  if (typeof pattern !== "string") {
    throw new InvalidSetting("pattern", "must be a regular expression");
  }
  let compiled;
  try {
    compiled = new RegExp(pattern, "u");
  } catch (error) {
    throw new InvalidSetting("pattern", error.message);
  }
  // With an empty alternative, the pattern always matches and shows its number of groups.
  if (new RegExp(`${pattern}|`, "u").exec("").length < 2) {
    throw new InvalidSetting("pattern", "must have a capture group, which is the tenant");
  }
  return compiled;
}
