// The stage `{{name}}`: drops the fields with some keys.

import { brokenInvariant } from "./batch.js";
import { parse } from "./settings.js";
import { InvalidSetting } from "./invalid-setting.js";

const SCHEMA = {
  type: "object",
  additionalProperties: false,
  properties: {
    drop: {
      type: "array",
      items: { type: "string" },
      default: ["password"],
      description: "Keys of fields to drop.",
    },
  },
};

class Session {
  #drop;

  constructor(drop) {
    this.#drop = drop;
  }

  static open(config) {
    try {
      const { drop = ["password"] } = parse(config, SCHEMA);
      if (!Array.isArray(drop) || !drop.every((key) => typeof key === "string")) {
        throw new InvalidSetting("drop", "must be a list of keys");
      }
      return new Session(new Set(drop));
    } catch (error) {
      throw error instanceof InvalidSetting ? error.witError : error;
    }
  }

  push(batch) {
    const problem = brokenInvariant(batch);
    if (problem) {
      throw { tag: "invalid-batch", val: problem };
    }
    // An empty list: output log i is from input log i.
    return { batch: this.#without(batch), logs: new Uint32Array() };
  }

  #without(batch) {
    const isDropped = batch.keys.map((key) => this.#drop.has(key));
    if (!isDropped.includes(true)) {
      return batch;
    }
    const fieldEnds = new Uint32Array(batch.fieldEnds.length);
    const fieldKeys = new Uint32Array(batch.fieldKeys.length);
    const valueEnds = new Uint32Array(batch.valueEnds.length);
    const values = new Uint8Array(batch.values.length);
    let [field, fields, start, length] = [0, 0, 0, 0];
    batch.fieldEnds.forEach((last, log) => {
      for (; field < last; field++) {
        const end = batch.valueEnds[field];
        if (!isDropped[batch.fieldKeys[field]]) {
          values.set(batch.values.subarray(start, end), length);
          length += end - start;
          fieldKeys[fields] = batch.fieldKeys[field];
          valueEnds[fields++] = length;
        }
        start = end;
      }
      fieldEnds[log] = fields;
    });
    return {
      ...batch,
      fieldEnds,
      fieldKeys: fieldKeys.slice(0, fields),
      valueEnds: valueEnds.slice(0, fields),
      values: values.slice(0, length),
    };
  }
}

export const transformer = {
  describe() {
    return { name: "{{name}}", version: "0.1.0", configSchema: JSON.stringify(SCHEMA) };
  },

  Session,
};
