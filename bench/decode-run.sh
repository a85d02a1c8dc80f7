#!/usr/bin/env bash
# Decoding on a GPU, in two halves that may be two machines:
#
#   bench/decode-run.sh pack [FOLDER]    here: a self-contained build with llama.cpp's CUDA backend, bundle, studies and this script (default decode-run)
#   ./decode-run.sh [OUTPUT] [ARG...]    there: `pcrl-bench decode` in the shape of an 8B model on the card, against llama.cpp's own loop
#
# The other machine needs Linux x64, an NVIDIA driver of CUDA 13.1 or newer (13.0 will do if CARD=75, 80 or 90 names the card's compute capability when packing), libcudart.so.13 and libcublas.so.13 (looked for in PyTorch's packages
# too; PYTHON names the python3), 6 GB in TMPDIR (default /dev/shm); no .NET, no network. OUTPUT (default results) gets decode.md, decode.json and
# decode.log. ARGs stand in place of `--shape 8b --device cuda --texts 12`; STUDIES names a folder of studies to pack (default samples).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

if [ "${1-}" = pack ]; then
    folder=$(realpath -m "${2-decode-run}")
    if [ -n "$(ls -A "$folder" 2> /dev/null)" ]; then echo "$folder: is not empty" >&2; exit 1; fi
    dotnet publish "$here/Pcrl.Bench.csproj" -c Release -r linux-x64 --self-contained -p:LlamaBackend=cuda -p:LlamaCudaCard="${CARD-}" --nologo -v q -o "$folder"
    rm -rf "$folder"/libonnxruntime* "$folder"/onnxruntime.dll "$folder"/*.pdb "$folder"/*.xml
    cp -r "$here/../models/characters" "$folder/bundle"
    cp -r "${STUDIES-$here/../samples}" "$folder/studies"
    cp "$here/decode-run.sh" "$folder/"
    git -C "$here" describe --always --dirty > "$folder/commit"
    du -sh "$folder"
    exit
fi

output=${1-$here/results}
shift $(($# > 0))
[ $# -gt 0 ] || set -- --shape 8b --device cuda --texts 12
mkdir -p "$output"
libraries=$("${PYTHON-python3}" -c 'import glob, os, site, sys
print(":".join(sorted({os.path.dirname(f) for p in sys.path + site.getsitepackages() for f in glob.glob(p + "/nvidia/*/lib/lib*.so.1[0-9]")})))' || true)
export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} TMPDIR=${TMPDIR-/dev/shm}
{
    date -u
    cat "$here/commit"
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm,clocks.mem --format=csv || echo "nvidia-smi does not run"
    "$here/pcrl-bench" decode "$here/studies" --bundle "$here/bundle" --output "$output" "$@"
} 2>&1 | tee "$output/decode.log"
