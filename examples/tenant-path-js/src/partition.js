// Renders the partition format, in the style of strptime.

import { InvalidSetting } from "./invalid-setting.js";

const two = (number) => String(number).padStart(2, "0");

// By the letter after the `%`. Dates are in UTC, shifted by the time zone's offset.
const DIRECTIVES = {
  Y: (date) => String(date.getUTCFullYear()).padStart(4, "0"),
  m: (date) => two(date.getUTCMonth() + 1),
  d: (date) => two(date.getUTCDate()),
  H: (date) => two(date.getUTCHours()),
  M: (date) => two(date.getUTCMinutes()),
  S: (date) => two(date.getUTCSeconds()),
  F: (date) => `${DIRECTIVES.Y(date)}-${DIRECTIVES.m(date)}-${DIRECTIVES.d(date)}`,
  "%": () => "%",
};

/** Renders the partition format at the partition time, in the rule's time zone. */
export function partition({ partitionFormat, partitionTime, utcOffset }) {
  const date = new Date(Number(partitionTime / 1_000_000n) + utcOffset * 1000);
  return partitionFormat.replace(/%(.?)/gsu, (directive, letter) => {
    if (!Object.hasOwn(DIRECTIVES, letter)) {
      const known = Object.keys(DIRECTIVES).map((known) => `%${known}`).join(" ");
      throw new InvalidSetting("partition-format", `${directive} is not supported; use one of ${known}`);
    }
    return DIRECTIVES[letter](date);
  });
}
