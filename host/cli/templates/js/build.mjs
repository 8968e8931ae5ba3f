// Builds {{name}}.wasm, or the file given as argument.

import { writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

import { componentize } from "@bytecodealliance/componentize-js";

const path = (relative) => fileURLToPath(new URL(relative, import.meta.url));

const { component } = await componentize({
  sourcePath: path("src/stage.js"),
  witPath: path("wit"),
  worldName: "{{kind}}",
  // Features that import WASI, which stages must not do.
  disableFeatures: ["stdio", "random", "clocks", "http", "fetch-event"],
});
await writeFile(process.argv[2] ?? path("{{name}}.wasm"), component);
