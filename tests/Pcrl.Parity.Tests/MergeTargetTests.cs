using Pcrl.Convert;
using Xunit.Abstractions;

namespace Pcrl.Parity.Tests;

/// <summary>
/// An adapter that was trained on an NF4 base can be merged onto the original weights or onto the NF4 ones. Which is nearer to the trained
/// model once the result is quantised again?
/// </summary>
public sealed class MergeTargetTests(ITestOutputHelper output) : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("pcrl-test-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private LogitFigures Figures(LlmType type, AdapterBase target)
    {
        using var model = SmallLlm.InMemory(SmallLlm.Wide);
        var options = new ConversionOptions { LanguageType = type, TrainedOn = AdapterBase.Nf4, MergeOnto = target, Accepted = ParityFigures.Names };
        return BundleConverter.Convert(model, SmallLlm.Adapter(SmallLlm.Wide), Path.Combine(_folder, "llm.gguf"), options).Logits;
    }

    [Theory]
    [InlineData(LlmType.F16)]
    [InlineData(LlmType.Q8_0)]
    [InlineData(LlmType.Q6_K)]
    [InlineData(LlmType.Q5_K_M)]
    [InlineData(LlmType.Q4_K_M)]
    public void The_base_of_the_training_is_the_better_target(LlmType type)
    {
        var (original, nf4) = (Figures(type, AdapterBase.Original), Figures(type, AdapterBase.Nf4));
        output.WriteLine(FormattableString.Invariant(
            $"| {type} | {original.Divergence:0.0000} | {original.TopTokenAgreement:p1} | {nf4.Divergence:0.0000} | {nf4.TopTokenAgreement:p1} |"));
        Assert.InRange(nf4.Divergence, 0, original.Divergence);
    }
}
