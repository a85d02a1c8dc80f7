#!/usr/bin/env bash
# Training on a GPU with the libtorch of a Python installation, in two halves that may be two machines:
#
#   tools/train/gpu-run.sh pack [FOLDER]    here: a self-contained build of pcrl-train without libtorch, and this script (default gpu-train)
#   ./gpu-run.sh ARG...                     there: pcrl-train ARG..., as in ./gpu-run.sh step configs/full.json --device cuda
#
# The other machine needs Linux x64, an NVIDIA driver and a python3 with PyTorch for CUDA (PYTHON names another); no .NET, no network. TorchSharp's
# shim is made for PyTorch 2.10 and was seen to load with 2.11; where NuGet has TorchSharp-cuda-linux, a build with -p:TorchBackend=cuda needs none of this.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

if [ "${1-}" = pack ]; then
    folder=$(realpath -m "${2-gpu-train}")
    if [ -n "$(ls -A "$folder" 2> /dev/null)" ]; then echo "$folder: is not empty" >&2; exit 1; fi
    dotnet publish "$here/train.csproj" -c Release -r linux-x64 --self-contained --nologo -v q -o "$folder"
    (cd "$folder" && rm -rf native libtorch* libc10* libgomp* libshm* libaoti* libbackend_with_compiler* libjitbackend_test* libnnapi_backend* *.pdb *.xml)
    cp -r "$here/gpu-run.sh" "$here/../../configs" "$folder/"
    git -C "$here" describe --always --dirty > "$folder/commit"
    du -sh "$folder"
    exit
fi

[ -x "$here/pcrl-train" ] || { echo "$here/pcrl-train: is not there; 'gpu-run.sh pack' makes a folder with it" >&2; exit 1; }
torch=$("${PYTHON-python3}" -c 'import os, torch; print(os.path.dirname(torch.__file__))')
ln -sf "$torch"/lib/*.so* "$here/"
libraries=$(find "$torch/../nvidia" -name '*.so*' -printf '%h\n' 2> /dev/null | sort -u | paste -sd:)
export LD_LIBRARY_PATH=$torch/lib:$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
exec "$here/pcrl-train" "$@"
