// Fetches one prebuilt llama.cpp from npm: node fetch-llama.mjs PACKAGE VERSION SHA512 FOLDER
// FOLDER appears whole or not at all, so that builds running at the same time can't see, or spoil, each other's half of it.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";

const [name, version, sha512, folder] = process.argv.slice(2);

function run(command, options, cwd) {
  const result = spawnSync(command, options, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  if (result.error?.code === "ENOENT") throw new Error(`'${command}' was not found`);
  if (result.status !== 0) throw new Error(`'${command} ${options.join(" ")}' failed: ${(result.stderr || String(result.error)).trim()}`);
}

mkdirSync(dirname(folder), { recursive: true });
const work = mkdtempSync(`${folder}.`);
try {
  run("npm", ["pack", `${name}@${version}`, "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], work);
  const archive = readdirSync(work).find((file) => file.endsWith(".tgz"));
  const got = createHash("sha512").update(readFileSync(join(work, archive))).digest("base64");
  if (got !== sha512) throw new Error(`${name}@${version} has SHA-512 ${got}, expected ${sha512}`);
  run("tar", ["-xzf", archive], work);
  const bins = join(work, "package", "bins");
  try {
    renameSync(join(bins, readdirSync(bins)[0]), folder);
  } catch (error) {
    if (!existsSync(folder)) throw error; // else another build was faster, with the same content
  }
} catch (error) {
  console.error(`error PCRL001: llama.cpp could not be fetched from npm: ${error.message}`);
  process.exitCode = 1;
} finally {
  rmSync(work, { recursive: true, force: true });
}
