using Pcrl.Kernels;
using Pcrl.Kernels.Convolution;
using Pcrl.Kernels.Gpu;
using Pcrl.Kernels.TensorCores;

namespace Pcrl.Bench;

/// <summary>Every layer of the full-size visual path with every tile of the tensor cores: what <see cref="TensorTile.Choose"/> is held against.</summary>
internal static class GpuTiles
{
    /// <summary>A layer with one tile, or with no choice of tiles.</summary>
    public sealed record Row(string Layer, string Tile, bool Chosen, double Milliseconds, double TeraflopPerSecond);

    /// <summary>Times them with as many slices as the network has; inputs and weights are random, since zeros take less power and run faster.</summary>
    public static List<Row> Measure(GpuDevice device, int slices, int seed, CancellationToken cancellation)
    {
        const long Large = 10_000_000; // operations: the awkward cases are below it
        var rows = new List<Row>();
        foreach (var opCase in OpCase.All.Where(c => c.Flops > Large || c.Operator is not (Conv2d or Linear or ConvTranspose2d)))
        {
            var shape = opCase.Input.N == 1 ? opCase.Input with { N = slices } : opCase.Input;
            if (shape.Count < 1_000_000 && opCase.Flops < Large)
                continue;
            float[] weight = Values(opCase.Operator.WeightCount, seed), bias = Values(opCase.Operator.BiasCount, seed);
            using var input = Random(device, shape, seed);
            using var output = device.NewTensor(opCase.Operator.OutputShape(shape));
            using var residual = opCase.Residual ? Random(device, output.Shape, seed + 1) : null;
            using (var layer = device.Prepare(opCase.Operator, shape, weight, bias))
                Add("", layer, chosen: true);
            if (ConvolutionForm.Of(opCase.Operator, shape) is not { } form || GpuPointwise.Takes(form))
                continue;
            foreach (var tile in TensorTile.All)
            {
                cancellation.ThrowIfCancellationRequested();
                if (!device.HasTile(tile) || !tile.GathersValues && !TensorProduct.HasWholeChunks(form, shape) && PixelBlocks.Of(opCase.Operator, shape, weight) is null)
                    continue;
                using var layer = new TensorConvolution(device, opCase.Operator, shape, form, weight, bias, tile);
                Add($"{(tile.Warpgroups ? "wgmma" : "mma")} {tile.Rows}x{tile.Columns}", layer, chosen: false);
            }

            void Add(string tile, Layer layer, bool chosen)
            {
                double seconds = Timing.Median(() => layer.Run(input, output, residual), device, processorTime: false);
                rows.Add(new(opCase.Name, tile, chosen, seconds * 1e3, opCase.Operator.Flops(shape) / seconds / 1e12));
            }
        }
        return rows;
    }

    /// <summary>One line a layer, one column a tile, milliseconds each.</summary>
    public static IEnumerable<string> Table(List<Row> rows)
    {
        string[] tiles = [.. rows.Where(r => r.Tile.Length > 0).Select(r => r.Tile).Distinct()];
        yield return $"| layer | as chosen, ms | TFLOP/s |{string.Concat(tiles.Select(t => $" {t} |"))}";
        yield return $"|---|---:|---:|{string.Concat(tiles.Select(_ => "---:|"))}";
        foreach (var layer in rows.GroupBy(r => r.Layer))
        {
            var chosen = layer.First(r => r.Chosen);
            yield return $"| {layer.Key} | {chosen.Milliseconds:0.000} | {chosen.TeraflopPerSecond:0} |"
                + string.Concat(tiles.Select(t => layer.FirstOrDefault(r => r.Tile == t) is { } row ? $" {row.Milliseconds:0.000} |" : " |"));
        }
    }

    private static Tensor Random(GpuDevice device, Shape shape, int seed)
    {
        var tensor = device.NewTensor(shape);
        tensor.Write(Values(shape.Count, seed));
        return tensor;
    }

    private static float[] Values(long count, int seed)
    {
        var random = new Random(seed);
        float[] some = [.. Enumerable.Range(0, (int)Math.Min(count, 1 << 20)).Select(_ => random.NextSingle() - 0.5f)];
        var values = new float[count];
        for (long at = 0; at < count; at += some.Length)
            some.AsSpan(0, (int)Math.Min(some.Length, count - at)).CopyTo(values.AsSpan((int)at));
        return values;
    }
}
