"""The visual path in PyTorch, with the weights of SeededWeights.cs: what `pcrl-bench gpu` measures itself against.

Reads lines "PRECISION MODE" (fp32, tf32, fp16 or bf16; eager or compile) from standard input, encodes the study once each time and answers with
one line of JSON: seconds from pixels on the host to tokens on the host, seconds with the pixels on the card already, and on the first answer of
each kind the file that the tokens were written to. What fails is answered with {"error": ...}.
"""
import argparse
import json
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class Bottleneck(nn.Module):
    def __init__(self, inputs, width, stride, first):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1)
        self.conv3 = nn.Conv2d(width, width * 4, 1)
        self.downsample = nn.Conv2d(inputs, width * 4, 1, stride) if first else None

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        y = F.relu(self.conv2(F.relu(self.conv1(x))))
        return F.relu(self.conv3(y) + shortcut)


class Basic(nn.Module):
    def __init__(self, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, stride, 1)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1)
        self.downsample = nn.Conv2d(width, width, 2, stride) if stride == 2 else None

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(self.conv2(F.relu(self.conv1(x))) + shortcut)


class Trunk(nn.Module):
    def __init__(self, width, depths):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3)
        inputs = width
        self.stages = len(depths)
        for stage, depth in enumerate(depths):
            blocks = []
            for block in range(depth):
                blocks.append(Bottleneck(inputs, width << stage, 2 if stage > 0 and block == 0 else 1, block == 0))
                inputs = (width << stage) * 4
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.channels = inputs

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 3, 2, 1)
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return x


class Encoder(nn.Module):
    def __init__(self, width, depths, grid, tokens):
        super().__init__()
        self.grid = grid
        self.trunk = Trunk(width, depths)
        channels = self.trunk.channels
        self.local_res = nn.Sequential(Basic(channels, 2), Basic(channels, 1))
        self.local_visual_projector = nn.Linear(channels, tokens)
        self.global_visual_projector = nn.Sequential(nn.Linear(channels, tokens), nn.Linear(tokens, tokens))
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(self, grey):
        x = (grey - self.mean.float()) / self.std.float()
        x = self.trunk(x.to(self.mean.dtype).contiguous(memory_format=torch.channels_last))
        local = self.local_res(F.adaptive_avg_pool2d(x, self.grid)).mean((2, 3))
        return torch.cat([self.local_visual_projector(local), self.global_visual_projector(x.mean((2, 3)))]).float()


def seeded(name, shape, seed):
    """The values of SeededWeights.cs."""
    mask, count = (1 << 64) - 1, int(np.prod(shape))
    fan_in = int(np.prod(shape[1:]))
    closes_block = "conv3" in name or ("local_res" in name and "conv2" in name)
    scale = np.float32(0.02) if len(shape) == 1 else np.sqrt(np.float32(6) / np.float32(fan_in)) * np.float32(0.3 if closes_block else 1)
    state = seed & mask
    for letter in name:
        state = ((state ^ ord(letter)) * 0x100000001B3) & mask
    z = np.uint64(state) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (scale * ((z >> np.uint64(40)).astype(np.float32) / np.float32(1 << 23) - np.float32(1))).reshape(shape)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--slices-file", required=True)
    parser.add_argument("--slices", type=int, required=True)
    parser.add_argument("--image-size", type=int, required=True)
    parser.add_argument("--width", type=int, required=True)
    parser.add_argument("--depths", required=True)
    parser.add_argument("--grid", type=int, required=True)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--folder", required=True)
    arguments = parser.parse_args()

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True
    study = torch.from_numpy(np.fromfile(arguments.slices_file, np.float32)).view(arguments.slices, 1, arguments.image_size, arguments.image_size)
    encoder = Encoder(arguments.width, [int(d) for d in arguments.depths.split(",")], arguments.grid, arguments.tokens)
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            parameter.copy_(torch.from_numpy(seeded(name, tuple(parameter.shape), arguments.seed)))
    weights = encoder.state_dict()
    print(json.dumps({"torch": torch.__version__, "cudnn": torch.backends.cudnn.version(), "device": torch.cuda.get_device_name() if device == "cuda" else "cpu"}), flush=True)
    types = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    ready = {}

    def synchronise():
        if device == "cuda":
            torch.cuda.synchronize()

    def prepare(precision, mode):
        model = Encoder(arguments.width, [int(d) for d in arguments.depths.split(",")], arguments.grid, arguments.tokens)
        model.load_state_dict(weights)
        model = model.eval().to(device, dtype=types[precision], memory_format=torch.channels_last)
        return torch.compile(model) if mode == "compile" else model

    def answer(precision, mode):
        # TF32 is a switch of the whole process.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
        first = (precision, mode) not in ready
        if first:
            model = prepare(precision, mode)
            for _ in range(3):
                model(study.to(device))
            ready[precision, mode] = model
        model = ready[precision, mode]
        synchronise()
        start = time.perf_counter()
        tokens = model(study.to(device)).cpu()
        whole = time.perf_counter() - start
        resident = study.to(device)
        synchronise()
        start = time.perf_counter()
        model(resident)
        synchronise()
        result = {"seconds": whole, "resident": time.perf_counter() - start}
        if first:
            result["tokens"] = f"{arguments.folder}/{precision}-{mode}.f32"
            tokens.numpy().tofile(result["tokens"])
        return result

    with torch.inference_mode():
        for line in sys.stdin:
            try:
                print(json.dumps(answer(*line.split())), flush=True)
            except Exception as problem:  # one kind that does not run must not end the others
                print(json.dumps({"error": f"{type(problem).__name__}: {problem}".splitlines()[0]}), flush=True)


if __name__ == "__main__":
    main()
