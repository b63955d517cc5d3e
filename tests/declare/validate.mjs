// Prints, as JSON, what the AsyncAPI parser finds wrong with each file: node validate.mjs FOLDER_OF_NODE_MODULES FILE...
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [folder, ...files] = process.argv.slice(2);
const { Parser } = createRequire(`${folder}/`)("@asyncapi/parser");
const parser = new Parser();
const found = [];
for (const file of files) {
  const diagnostics = await parser.validate(readFileSync(file, "utf8"));
  found.push(diagnostics.map(({ severity, code, message, path }) => ({ severity, code, message, path: path.join("/") })));
}
console.log(JSON.stringify(found));
