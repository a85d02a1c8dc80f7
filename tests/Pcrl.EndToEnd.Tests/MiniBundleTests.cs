using Pcrl.Tests;
using Pcrl.Runtime.Bundles;

namespace Pcrl.EndToEnd.Tests;

/// <summary>The committed bundle as others see it.</summary>
public sealed class MiniBundleTests
{
    private const long LargestBundle = 16 << 20;

    [Fact]
    public void It_opens_is_small_and_says_where_it_comes_from()
    {
        var manifest = Bundle.Open(Repository.MiniBundle).Manifest;
        Assert.True(new DirectoryInfo(Repository.MiniBundle).EnumerateFiles().Sum(f => f.Length) <= LargestBundle);
        foreach (string key in (string[])["data", "provenance", "held_out", "parity"])
            Assert.True(manifest.Provenance.ContainsKey(key), key);
    }

    [SkippableFact]
    public void Its_language_model_opens_in_an_independent_program() =>
        NodeLlamaCpp.AssertAgrees(Path.Combine(Repository.MiniBundle, Bundle.LanguageFile), "<|begin_of_text|>双侧大脑半球对称，", 24);
}
