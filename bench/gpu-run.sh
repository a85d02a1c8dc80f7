#!/usr/bin/env bash
# The whole run on a GPU, in two halves that may be two machines:
#
#   bench/gpu-run.sh pack [FILE]      here: a self-contained build with this script in it (default gpu-run.tar.xz)
#   ./gpu-run.sh [OUTPUT] [ARG...]    there, unpacked: checks every operator case, then times the encoder against PyTorch
#
# The other machine needs Linux x64, an NVIDIA driver and a python3 with PyTorch (PYTHON names another); no .NET, no network. In a
# checkout on a machine with a card the second form builds first. OUTPUT (default bench/results, or results) gets gpu.md, gpu.json and
# gpu.log. ARGs go to `pcrl-bench gpu`.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

publish() {
    dotnet publish "$here/Pcrl.Bench.csproj" -c Release -r linux-x64 --self-contained --nologo -v q -o "$1"
    # The run needs none of the native code of language model, ONNX Runtime and pictures.
    rm -rf "$1"/native "$1"/libonnxruntime* "$1"/onnxruntime.dll "$1"/libSkiaSharp* "$1"/*.pdb "$1"/*.xml
    cp "$here/gpu-run.sh" "$1/"
    git -C "$here" describe --always --dirty > "$1/commit"
}

if [ "${1-}" = pack ]; then
    file=$(realpath "${2-gpu-run.tar.xz}")
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    publish "$folder/gpu-run"
    tar -C "$folder" -cJf "$file" gpu-run
    ls -l "$file"
    exit
fi

if [ -x "$here/pcrl-bench" ]; then
    program=$here/pcrl-bench
    output=${1-$here/results}
else
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    publish "$folder/gpu-run"
    program=$folder/gpu-run/pcrl-bench
    output=${1-$here/results}
fi
shift $(($# > 0))
mkdir -p "$output"
{
    date -u
    cat "$(dirname "$program")/commit"
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm,clocks.mem --format=csv || echo "nvidia-smi does not run"
    "$program" gpu --python "${PYTHON-python3}" --output "$output" "$@"
} 2>&1 | tee "$output/gpu.log"
