// Opens a GGUF in node-llama-cpp, an independent program: node open-gguf.mjs FILE TEXT COUNT
// Prints {"vocabulary", "tokens", "text", "continuation"}: the tokens of TEXT (special tokens parsed), the text they give back,
// and the tokens that follow them greedily, COUNT at most and none behind the end of the text.
import { getLlama, LlamaLogLevel } from "node-llama-cpp";

const [file, text, count] = process.argv.slice(2);
const llama = await getLlama({ gpu: false, build: "never", skipDownload: true, logLevel: LlamaLogLevel.error });
const model = await llama.loadModel({ modelPath: file });
const context = await model.createContext({ contextSize: 256, batchSize: 256, flashAttention: false, experimentalKvCacheKeyType: "F32", experimentalKvCacheValueType: "F32" });
const sequence = context.getSequence();
const tokens = model.tokenize(text, true);
const continuation = [];
for await (const token of sequence.evaluate(tokens, { temperature: 0, yieldEogToken: true })) {
  continuation.push(token);
  if (continuation.length >= Number(count) || model.isEogToken(token)) break;
}
console.log(JSON.stringify({ vocabulary: [...model.iterateAllTokens()].length, tokens, text: model.detokenize(tokens, true), continuation }));
await llama.dispose();
