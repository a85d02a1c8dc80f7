// Fetches one file or folder of an npm package: node fetch-npm.mjs PACKAGE VERSION SHA512 PATH-IN-PACKAGE TARGET
// TARGET appears whole or not at all, so that builds running at the same time can't see, or spoil, each other's half of it.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";

const [name, version, sha512, path, target] = process.argv.slice(2);

function run(command, options, cwd) {
  const result = spawnSync(command, options, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  if (result.error?.code === "ENOENT") throw new Error(`'${command}' was not found`);
  if (result.status !== 0) throw new Error(`'${command} ${options.join(" ")}' failed: ${(result.stderr || String(result.error)).trim()}`);
}

mkdirSync(dirname(target), { recursive: true });
const work = mkdtempSync(`${target}.`);
try {
  run("npm", ["pack", `${name}@${version}`, "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], work);
  const archive = readdirSync(work).find((file) => file.endsWith(".tgz"));
  const got = createHash("sha512").update(readFileSync(join(work, archive))).digest("base64");
  if (got !== sha512) throw new Error(`${name}@${version} has SHA-512 ${got}, expected ${sha512}`);
  run("tar", ["-xzf", archive, `package/${path}`], work);
  try {
    renameSync(join(work, "package", path), target);
  } catch (error) {
    if (!existsSync(target)) throw error; // else another build was faster, with the same content
  }
} catch (error) {
  console.error(`error PCRL001: ${name} could not be fetched from npm: ${error.message}`);
  process.exitCode = 1;
} finally {
  rmSync(work, { recursive: true, force: true });
}
