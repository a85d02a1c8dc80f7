using System.Globalization;
using System.Security.Cryptography;
using System.Text.Json.Nodes;
using Pcrl.Runtime.Studies;

namespace Pcrl.Train.Data;

/// <summary>
/// What stands in the training part and again in another one. Findings count when they agree word for word (white space apart), slices when they agree in every
/// pixel; slices without any contrast, such as air, do not count.
/// </summary>
/// <param name="ValidationFindings">Validation studies whose findings stand in the training part.</param>
/// <param name="Validation">Validation studies.</param>
/// <param name="HeldOutFindings">Held-out studies whose findings stand in the training part.</param>
/// <param name="HeldOut">Held-out studies.</param>
/// <param name="Slices">Slices of validation and held-out studies that stand in the training part.</param>
public sealed record Leakage(int ValidationFindings, int Validation, int HeldOutFindings, int HeldOut, int Slices)
{
    /// <summary>Counts.</summary>
    public static Leakage Of(IReadOnlyList<TrainingStudy> training, IReadOnlyList<TrainingStudy> validation, IReadOnlyList<TrainingStudy> heldOut)
    {
        var slices = training.SelectMany(SlicesOf).ToHashSet();
        string[] texts = [.. training.SelectMany(s => s.Findings)];
        return new Leakage(
            Findings(texts, validation), validation.Count, Findings(texts, heldOut), heldOut.Count,
            validation.Concat(heldOut).SelectMany(SlicesOf).Count(slices.Contains));
    }

    /// <summary>How many of <paramref name="others"/> stand among <paramref name="training"/>.</summary>
    public static int Count(IEnumerable<string> training, IEnumerable<string> others)
    {
        var known = training.Select(Squeeze).ToHashSet();
        return others.Count(text => known.Contains(Squeeze(text)));
    }

    /// <summary>One line.</summary>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture,
        $"leakage: findings of {HeldOutFindings} of {HeldOut} held-out and {ValidationFindings} of {Validation} validation studies stand verbatim in training; {Slices} slices do");

    /// <summary>The counts as JSON.</summary>
    public JsonObject ToJson() => new()
    {
        ["validation_findings"] = ValidationFindings, ["validation"] = Validation, ["held_out_findings"] = HeldOutFindings, ["held_out"] = HeldOut, ["slices"] = Slices,
    };

    private static int Findings(string[] training, IReadOnlyList<TrainingStudy> others) => Count(training, others.Select(s => s.Findings[0]));

    private static string Squeeze(string text) => string.Concat(text.Where(c => !char.IsWhiteSpace(c)));

    private static IEnumerable<UInt128> SlicesOf(TrainingStudy study)
    {
        int pixels = study.Slices.Length / SliceSelector.Count;
        for (int s = 0; s < SliceSelector.Count; s++)
        {
            var slice = study.Slices.AsMemory(s * pixels, pixels);
            if (slice.Span.ContainsAnyExcept(slice.Span[0]))
                yield return System.Buffers.Binary.BinaryPrimitives.ReadUInt128LittleEndian(SHA256.HashData(slice.Span));
        }
    }
}
