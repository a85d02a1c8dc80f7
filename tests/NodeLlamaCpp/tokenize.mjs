// Tokenises in node-llama-cpp, an independent program: node tokenize.mjs FILE TEXTS, TEXTS being a JSON array of strings in a file.
// Prints a JSON array of token arrays (special tokens are text).
import { readFileSync } from "node:fs";
import { getLlama, LlamaLogLevel } from "node-llama-cpp";

const [file, texts] = process.argv.slice(2);
const llama = await getLlama({ gpu: false, build: "never", skipDownload: true, logLevel: LlamaLogLevel.error });
const model = await llama.loadModel({ modelPath: file, vocabOnly: true });
console.log(JSON.stringify(JSON.parse(readFileSync(texts, "utf8")).map((text) => [...model.tokenize(text, false, "trimLeadingSpace")])));
await llama.dispose();
