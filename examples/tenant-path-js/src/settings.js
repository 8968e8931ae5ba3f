// Parses settings: a JSON object with the keys of a schema.

import { InvalidSetting } from "./invalid-setting.js";

/** Parses JSON text into settings that the schema knows; the empty text means `{}`. */
export function parse(text, schema) {
  let settings;
  try {
    settings = JSON.parse(text || "{}");
  } catch (error) {
    throw new InvalidSetting("", `invalid JSON: ${error.message}`);
  }
  if (typeof settings !== "object" || settings === null || Array.isArray(settings)) {
    throw new InvalidSetting("", "must be a JSON object");
  }
  for (const name of Object.keys(settings)) {
    if (!Object.hasOwn(schema.properties, name)) {
      const known = Object.keys(schema.properties).join(", ");
      throw new InvalidSetting(name, `unknown setting ${name}; use one of ${known}`);
    }
  }
  return settings;
}
