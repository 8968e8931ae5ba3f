// The stage `tenant-path-js`: `PREFIX/tenant=TENANT/PARTITION_ID` and the suffix, the key of an object.

import { SCHEMA, parse } from "./config.js";
import { render } from "./key.js";
import { Wrong } from "./wrong.js";

export const renderer = {
  describe() {
    return { name: "tenant-path-js", version: "0.1.0", configSchema: JSON.stringify(SCHEMA) };
  },

  render(config, request) {
    try {
      return render(parse(config), request);
    } catch (error) {
      throw error instanceof Wrong ? error.refusal : error;
    }
  },
};
