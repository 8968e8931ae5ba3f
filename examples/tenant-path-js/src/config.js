// The configuration: JSON, checked before a key is made of it.

import { parse as settings } from "./settings.js";
import { Wrong } from "./wrong.js";

const SOURCES = ["project", "logstore", "rule"];

export const SCHEMA = {
  $schema: "https://json-schema.org/draft/2020-12/schema",
  type: "object",
  additionalProperties: false,
  properties: {
    from: { enum: SOURCES, default: "project", description: "Whose name has the tenant in it." },
    pattern: {
      type: "string",
      default: "^(.+)$",
      description: "A regular expression of JavaScript. Its first group is the tenant.",
    },
    otherwise: {
      type: "string",
      minLength: 1,
      default: "unknown",
      description: "The tenant of a name that the pattern does not match.",
    },
    level: {
      type: "string",
      pattern: "^[a-z][a-z0-9_]*$",
      default: "tenant",
      description: "What stands before the `=`.",
    },
  },
};

/** The configuration that JSON text has; the empty text stands for `{}`. */
export function parse(text) {
  const { from = "project", pattern = "^(.+)$", otherwise = "unknown", level = "tenant" } = settings(text, SCHEMA);
  if (!SOURCES.includes(from)) {
    throw new Wrong("from", `one of ${SOURCES.join(", ")} is wanted`);
  }
  if (typeof otherwise !== "string" || otherwise === "") {
    throw new Wrong("otherwise", "a text is wanted, and no empty one");
  }
  if (typeof level !== "string" || !/^[a-z][a-z0-9_]*$/.test(level)) {
    throw new Wrong("level", "a name of a-z, 0-9 and _ is wanted");
  }
  return { from, pattern: expression(pattern), otherwise, level };
}

function expression(pattern) {
  if (typeof pattern !== "string") {
    throw new Wrong("pattern", "a regular expression is wanted");
  }
  let compiled;
  try {
    compiled = new RegExp(pattern, "u");
  } catch (error) {
    throw new Wrong("pattern", error.message);
  }
  // Beside nothing, which always matches, the pattern shows its groups.
  if (new RegExp(`${pattern}|`, "u").exec("").length < 2) {
    throw new Wrong("pattern", "a group in parentheses is wanted, which is the tenant");
  }
  return compiled;
}
