using System.Buffers.Binary;
using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json.Nodes;
using Pcrl.Parity.Tests;
using Pcrl.Runtime.Language;
using Xunit.Abstractions;

namespace Pcrl.EndToEnd.Tests;

/// <summary>
/// LLaMA-3-8B's shape with seeded weights: 16 GB in, 16 GB and 5 GB out. It needs 40 GB of disk and minutes, so it runs only where <c>PCRL_FULL_SIZE</c> names
/// a folder to work in; there the folder <c>llama3-8b</c> is kept for the next time, everything else is deleted.
/// </summary>
public sealed class FullSizeConversionTests(ITestOutputHelper output)
{
    private const long GibiByte = 1L << 30;
    private static readonly LlmConfig Config = new();

    [SkippableTheory]
    [InlineData("F16")]
    [InlineData("Q4_K_M")]
    public void Llama_3_8B_converts_in_4_GiB(string type)
    {
        string? work = Environment.GetEnvironmentVariable("PCRL_FULL_SIZE");
        Skip.If(string.IsNullOrEmpty(work), "NOT CHECKED: set PCRL_FULL_SIZE to a folder on a disk with 40 GB free");
        string model = Path.Combine(work!, "llama3-8b");
        if (!File.Exists(Path.Combine(model, "config.json")))
            Save(model);

        // Alternating, because the disk and the neighbours change their minds: copy, F16, copy. Other types take the time of quantising, not of the disk.
        double before = type == "F16" ? Copy(model, work!) : double.NaN;
        var (rate, memory) = Convert(model, Path.Combine(work!, type + ".gguf"), type);
        double after = type == "F16" ? Copy(model, work!) : double.NaN, copy = (before + after) / 2;
        output.WriteLine($"{type}: {rate:0} MB/s of output, peak {memory / (double)GibiByte:0.00} GiB; copy of the shards, flushed: {before:0} and {after:0} MB/s ({rate / copy:p0})");
        Assert.InRange(memory, 0, 4 * GibiByte);
    }

    /// <summary>Bytes per second of cp and sync, in MB/s.</summary>
    private static double Copy(string model, string work)
    {
        string copy = Path.Combine(work, "copy");
        long bytes = Directory.GetFiles(model, "*.safetensors").Sum(f => new FileInfo(f).Length);
        var clock = Stopwatch.StartNew();
        using (var process = Process.Start("bash", ["-c", "mkdir \"$2\" && for f in \"$1\"/*.safetensors; do cp \"$f\" \"$2\" && sync \"$2/${f##*/}\" || exit 1; done", "bash", model, copy]))
        {
            process.WaitForExit();
            Assert.Equal(0, process.ExitCode);
        }
        double rate = bytes / clock.Elapsed.TotalSeconds / 1e6;
        Directory.Delete(copy, recursive: true);
        return rate;
    }

    /// <summary>Rate of the writing in MB/s of output, flushed, and the most memory that the process had resident, mapped files and the gate included.</summary>
    private (double Rate, long Memory) Convert(string model, string target, string type)
    {
        // Seeded weights give flat logits: how often the first choices agree says nothing here.
        using var process = PcrlProcess.StartConvert(
            "llm", model, target, "--type", type, "--accept", "top_token_agreement", "--accept", "logit_divergence");
        string line = "", memory = "";
        process.ErrorDataReceived += (_, e) =>
        {
            if (e.Data?.Contains(" MB/s, in ") == true)
                line = e.Data;
            if (e.Data?.StartsWith("peak memory ", StringComparison.Ordinal) == true)
                memory = e.Data.Replace("so far ", "").Split(' ')[2]; // the second of them, after the comparison, stays
            if (e.Data is not null)
                output.WriteLine($"{type}: {e.Data}");
        };
        process.BeginErrorReadLine();
        string figures = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        Assert.Equal(0, process.ExitCode);
        output.WriteLine($"{type}: {figures.Trim()}");
        File.Delete(target);
        double rate = double.Parse(line.Split(", ")[1].Split(' ')[0], System.Globalization.CultureInfo.InvariantCulture);
        return (rate, (long)(double.Parse(memory, System.Globalization.CultureInfo.InvariantCulture) * GibiByte));
    }

    /// <summary>Hugging Face's layout in four shards of BF16, with LLaMA-3's tokenizer sizes.</summary>
    private static void Save(string folder)
    {
        Directory.CreateDirectory(folder);
        var tensors = SmallLlm.Shapes(Config).ToList();
        var map = new JsonObject();
        int number = 0;
        foreach (var shard in Shards(tensors))
        {
            string file = $"model-{++number:00000}-of-00004.safetensors";
            SaveShard(Path.Combine(folder, file), shard);
            foreach (var (name, _) in shard)
                map[name] = file;
        }
        File.WriteAllText(Path.Combine(folder, "model.safetensors.index.json"), new JsonObject { ["weight_map"] = map }.ToJsonString());
        SmallLlm.SaveSettings(folder, Config); // config.json last: a folder with it is whole
    }

    private static IEnumerable<List<KeyValuePair<string, long[]>>> Shards(List<KeyValuePair<string, long[]>> tensors)
    {
        long total = tensors.Sum(t => Elements(t.Value)), done = 0;
        return tensors.GroupBy(t =>
        {
            long start = done;
            done += Elements(t.Value);
            return start * 4 / total;
        }).Select(g => g.ToList());
    }

    private static long Elements(long[] shape) => shape.Aggregate(1L, (a, b) => a * b);

    private static void SaveShard(string path, List<KeyValuePair<string, long[]>> tensors)
    {
        var header = new JsonObject();
        long offset = 0;
        foreach (var (name, shape) in tensors)
        {
            long end = offset + 2 * Elements(shape);
            header[name] = new JsonObject { ["dtype"] = "BF16", ["shape"] = new JsonArray([.. shape.Select(d => (JsonNode)d)]), ["data_offsets"] = new JsonArray(offset, end) };
            offset = end;
        }
        byte[] json = Encoding.UTF8.GetBytes(header.ToJsonString());
        using var stream = new FileStream(path, FileMode.Create);
        Span<byte> length = stackalloc byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(length, json.Length);
        stream.Write(length);
        stream.Write(json);
        var buffer = new ulong[1 << 19];
        foreach (var (name, shape) in tensors)
        {
            ulong state = name.Aggregate(7ul, (h, c) => unchecked(h * 31 + c));
            for (long left = 2 * Elements(shape); left > 0;)
            {
                foreach (ref ulong four in buffer.AsSpan())
                    four = shape.Length == 1 ? NormWeights : MatrixWeights(ref state);
                var part = MemoryMarshal.AsBytes<ulong>(buffer)[..(int)Math.Min(8 * buffer.Length, left)];
                stream.Write(part);
                left -= part.Length;
            }
        }
    }

    /// <summary>Four times 1 in BF16.</summary>
    private const ulong NormWeights = 0x3F80_3F80_3F80_3F80;

    /// <summary>Four BF16 values of random sign, mantissa, and exponent from −11 to −8: SplitMix64 with most bits of the exponents fixed.</summary>
    private static ulong MatrixWeights(ref ulong state)
    {
        unchecked
        {
            ulong z = state += 0x9E3779B97F4A7C15;
            z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
            z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
            return ((z ^ (z >> 31)) & 0x81FF_81FF_81FF_81FF) | 0x3A00_3A00_3A00_3A00;
        }
    }
}
