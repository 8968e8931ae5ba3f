// Settings: JSON, with the names that a schema has.

import { Wrong } from "./wrong.js";

/** The members of JSON text, of those that a schema knows; the empty text stands for `{}`. */
export function parse(text, schema) {
  let members;
  try {
    members = JSON.parse(text || "{}");
  } catch (error) {
    throw new Wrong("", `no JSON: ${error.message}`);
  }
  if (typeof members !== "object" || members === null || Array.isArray(members)) {
    throw new Wrong("", "a JSON object is wanted");
  }
  for (const name of Object.keys(members)) {
    if (!Object.hasOwn(schema.properties, name)) {
      const known = Object.keys(schema.properties).join(", ");
      throw new Wrong(name, `there is no setting ${name}; there are ${known}`);
    }
  }
  return members;
}
