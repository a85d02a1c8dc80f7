using System.Diagnostics;
using System.Runtime.Intrinsics.X86;
using System.Text.Json;
using Pcrl.Bench;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Vision;
using Pcrl.Train.Evaluation;

namespace Pcrl.EndToEnd.Tests;

/// <summary>
/// <c>pcrl report</c> where the LLM is of Q4_K and Q6_K and our kernels compute its batches: the embedded bundle's function in a larger shape, so that the texts
/// are reports.
/// </summary>
public sealed class QuantisedBundleTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("pcrl-quantised-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private string WideBundle()
    {
        const string shape = "40m-q4_k_m";
        string bundle = Path.Combine(_folder, "bundle");
        Directory.CreateDirectory(bundle);
        var small = Bundle.Open(Repository.MiniBundle);
        var visual = small.Manifest.Visual with { TokenWidth = WideLlm.Shapes[shape].Config.HiddenSize };
        WideLlm.Write(small.LanguagePath, Path.Combine(bundle, Bundle.LanguageFile), shape);
        File.Copy(small.PhrasesPath!, Path.Combine(bundle, Bundle.PhrasesFile));
        using (var file = GgufFile.Open(small.VisualPath))
        {
            var writer = new GgufWriter();
            writer.Add("general.architecture", VisualGguf.Architecture);
            foreach (var (name, tensor) in file.Tensors)
            {
                // Rows of a projector are what it makes; the second global one also gets what the first makes.
                long[] larger = [.. tensor.Shape.Select((size, i) =>
                    name.Contains("_projector") && (i == 0 || name == "global_visual_projector.1.weight") ? visual.TokenWidth : size)];
                writer.AddTensor(name, GgufType.F32, larger, () => Padded(file.Floats(name), tensor.Shape, larger));
            }
            writer.Save(Path.Combine(bundle, Bundle.VisualFile));
        }
        Bundle.WriteManifest(bundle, small.Manifest with { Visual = visual });
        return bundle;
    }

    /// <summary>Zeros around a matrix or behind a vector, up to a larger shape.</summary>
    private static float[] Padded(ReadOnlySpan<float> values, IReadOnlyList<long> shape, IReadOnlyList<long> larger)
    {
        var padded = new float[larger.Aggregate(1L, (product, size) => product * size)];
        int rows = (int)shape[0], length = values.Length / rows, room = padded.Length / (int)larger[0];
        for (int row = 0; row < rows; row++)
            values.Slice(row * length, length).CopyTo(padded.AsSpan(row * room));
        return padded;
    }

    private (string[] Texts, string Error) Reports(string bundle, string kernels, params string[] arguments)
    {
        using var process = Process.Start(new ProcessStartInfo("env",
            [$"PCRL_OWN_KERNELS={kernels}", "dotnet", PcrlProcess.PathOf("pcrl"), "report", Path.Combine(_folder, "studies"), "--bundle", bundle, "--json", "--temperature", "0", "--threads", "2", .. arguments])
        {
            RedirectStandardOutput = true, RedirectStandardError = true,
        })!;
        var run = PcrlProcess.Finish(process);
        Assert.True(run.ExitCode == 0, run.Error);
        var reports = JsonDocument.Parse(run.Output).RootElement.EnumerateArray().ToArray();
        return ([.. reports.Select(r => r.GetProperty("report").GetString()!)], run.Error);
    }

    [Fact]
    public void A_quantised_bundle_writes_alike_with_drafts_without_alone_and_with_llama_cpps_kernels()
    {
        var phantoms = PcrlProcess.RunTool("pcrl-train", "phantom", "--seed", "900000000", "--count", "8", "--size", "128", "--difficulty", "0.3", "-o", Path.Combine(_folder, "studies"));
        Assert.True(phantoms.ExitCode == 0, phantoms.Error);
        string bundle = WideBundle();
        var (texts, error) = Reports(bundle, "on"); // all at once: every batch has several rows, with drafts or not (those depend on what batches took)
        Assert.All(texts, text => Assert.Matches("^.{30,}。$", text));
        Assert.Equal(8, texts.Distinct().Count());
        Assert.Contains(Avx2.IsSupported ? ", own kernels for Q4_K and Q6_K" : "without own kernels", error);

        AssertAlike(texts, Reports(bundle, "on", "--no-speculation").Texts);
        AssertAlike(texts, Reports(bundle, "on", "--parallel", "1").Texts);
        var theirs = Reports(bundle, "off");
        Assert.Contains(Avx2.IsSupported ? "without own kernels: PCRL_OWN_KERNELS is off" : "without own kernels", theirs.Error);
        AssertAlike(texts, theirs.Texts);
    }

    /// <summary>
    /// Every text states the same facts as the other. Not the same words: sums in another order can round an activation to the next of 255 integers, and where two wordings of a sentence are as
    /// good as equal (the phantoms' texts have several of each), that decides between them. A wrong product changes what is said.
    /// </summary>
    private static void AssertAlike(string[] expected, string[] actual) => Assert.Equal(expected.Select(FindingFacts.Parse), actual.Select(FindingFacts.Parse));
}
