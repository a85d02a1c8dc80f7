// Leaves in a library of CUDA code only what one kind of card needs, for drivers older than the compiler: node cuda-code-for.mjs LIBRARY ARCH MAJOR.MINOR TARGET
// ARCH is a compute capability without its point (90). The library's PTX for it is labelled as ISA MAJOR.MINOR, so that a driver that knows no newer
// one compiles it: the instructions are older than the label. All other code goes, which makes room; nothing moves, the file keeps its size.
// A fat binary is a header (magic, version, 16, bytes that follow) and entries: a header (kind, version, its size, size of the
// payload, size before padding, …, ISA, architecture, …, flags, …, size when unpacked) and a payload, here packed by zstd. Kind 1 is PTX.
import { spawnSync } from "node:child_process";
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";

const [source, arch, isa, target] = process.argv.slice(2);
const temporary = `${target}.${process.pid}`;
const magic = Buffer.from([0x50, 0xed, 0x55, 0xba, 1, 0, 16, 0]);
const ptx = 1;
const packed = 0x8000n;

function zstd(options, input) {
  const result = spawnSync("zstd", ["-q", "-c", ...options], { input, maxBuffer: 2 ** 30 });
  if (result.error?.code === "ENOENT") throw new Error("'zstd' was not found (Debian package zstd)");
  if (result.status !== 0) throw new Error(`zstd failed: ${result.stderr}`);
  return result.stdout;
}

try {
  if (!target || !/^\d+$/.test(arch) || !/^\d+\.\d+$/.test(isa)) throw new Error("four arguments are needed: LIBRARY ARCH MAJOR.MINOR TARGET");
  const [major, minor] = isa.split(".").map(Number);
  const library = readFileSync(source);
  let binaries = 0;
  for (let start = library.indexOf(magic); start >= 0; start = library.indexOf(magic, start)) {
    const first = start + 16;
    const end = first + Number(library.readBigUInt64LE(start + 8));
    if (end > library.length) throw new Error(`the fat binary at ${start} is cut short`);
    let entry = null;
    for (let at = first, next; at < end; at = next) {
      next = at + library.readUInt32LE(at + 4) + Number(library.readBigUInt64LE(at + 8));
      if (next < at + 64 || next > end) throw new Error(`the entry at ${at} has an impossible size`);
      if (library.readUInt16LE(at) === ptx && library.readUInt32LE(at + 28) === Number(arch)) entry = at;
    }
    if (entry === null) throw new Error(`a fat binary at ${start} has no PTX for ${arch}`);
    const header = Buffer.from(library.subarray(entry, entry + library.readUInt32LE(entry + 4)));
    const payload = library.subarray(entry + header.length, entry + header.length + header.readUInt32LE(16));
    if (!(header.readBigUInt64LE(40) & packed)) throw new Error(`the PTX at ${entry} is not packed by zstd`);
    const text = zstd(["-d"], payload);
    const label = text.indexOf(".version ");
    const line = text.indexOf("\n", label);
    if (label < 0 || line - label < `.version ${isa}`.length) throw new Error(`the PTX at ${entry} has no version`);
    text.write(`.version ${major}.${minor}`.padEnd(line - label), label, "latin1");
    const body = zstd(["-12"], text);
    const size = Math.ceil(body.length / 8) * 8;
    if (first + header.length + size > end) throw new Error(`the PTX at ${entry} does not fit any more`);
    header.writeBigUInt64LE(BigInt(size), 8);
    header.writeUInt32LE(body.length, 16);
    header.writeUInt16LE(minor, 24);
    header.writeUInt16LE(major, 26);
    header.writeBigUInt64LE(BigInt(text.length), 56);
    library.fill(0, first, end);
    header.copy(library, first);
    body.copy(library, first + header.length);
    library.writeBigUInt64LE(BigInt(header.length + size), start + 8);
    binaries++;
    start = end;
  }
  if (binaries === 0) throw new Error("it has no fat binaries");
  writeFileSync(temporary, library);
  renameSync(temporary, target);
  console.log(`${binaries} fat binaries hold PTX for ${arch} alone, labelled ${isa}`);
} catch (error) {
  console.error(`error PCRL004: ${source ?? "cuda-code-for.mjs"}: ${error.message}`);
  if (target) rmSync(temporary, { force: true });
  process.exitCode = 1;
}
