// Makes {{name}}.wasm, or the file that is named.

import { writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

import { componentize } from "@bytecodealliance/componentize-js";

const path = (relative) => fileURLToPath(new URL(relative, import.meta.url));

const { component } = await componentize({
  sourcePath: path("src/stage.js"),
  witPath: path("wit"),
  worldName: "{{kind}}",
  // What would import WASI. A stage needs none of it: it is pure.
  disableFeatures: ["stdio", "random", "clocks", "http", "fetch-event"],
});
await writeFile(process.argv[2] ?? path("{{name}}.wasm"), component);
