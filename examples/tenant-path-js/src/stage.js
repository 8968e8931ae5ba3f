// The stage `tenant-path-js`: makes the key of an object, `PREFIX/tenant=TENANT/PARTITION_ID` followed by the suffix.

import { SCHEMA, parse } from "./config.js";
import { render } from "./key.js";
import { InvalidSetting } from "./invalid-setting.js";

export const renderer = {
  describe() {
    return { name: "tenant-path-js", version: "0.1.0", configSchema: JSON.stringify(SCHEMA) };
  },

  render(config, request) {
    try {
      return render(parse(config), request);
    } catch (error) {
      throw error instanceof InvalidSetting ? error.witError : error;
    }
  },
};
