using System.Numerics.Tensors;
using System.Text.Json.Nodes;
using Pcrl.Runtime;

namespace Pcrl.Convert;

/// <summary>How far one model's next-token logits are from another's.</summary>
/// <param name="Error">Largest |difference| of a logit.</param>
/// <param name="Divergence">Mean over the positions of KL(trained ‖ written), in nats.</param>
/// <param name="TopTokenAgreement">Share of positions at which both rank the same token first.</param>
/// <param name="Positions">Positions compared.</param>
public sealed record LogitFigures(double Error, double Divergence, double TopTokenAgreement, int Positions)
{
    /// <summary>Compares logits of the same positions, [positions, vocabulary].</summary>
    public static LogitFigures Compare(ReadOnlySpan<float> trained, ReadOnlySpan<float> written, int vocabulary)
    {
        if (trained.Length != written.Length || trained.Length % vocabulary != 0)
            throw new ArgumentException($"{trained.Length} and {written.Length} logits of a vocabulary of {vocabulary}");
        double error = 0, divergence = 0;
        int agreeing = 0, positions = trained.Length / vocabulary;
        for (int p = 0; p < positions; p++)
        {
            var a = trained.Slice(p * vocabulary, vocabulary);
            var b = written.Slice(p * vocabulary, vocabulary);
            double sumOfA = LogSumOfExponentials(a), sumOfB = LogSumOfExponentials(b);
            for (int i = 0; i < vocabulary; i++)
            {
                double difference = Math.Abs((double)a[i] - b[i]), logOfA = a[i] - sumOfA;
                if (!(difference <= error))
                    error = difference; // NaN stays
                divergence += Math.Exp(logOfA) * (logOfA - (b[i] - sumOfB));
            }
            if (TensorPrimitives.IndexOfMax(a) == TensorPrimitives.IndexOfMax(b))
                agreeing++;
        }
        return new LogitFigures(error, divergence / positions, (double)agreeing / positions, positions);
    }

    /// <summary>The figures of two sets of positions together.</summary>
    public LogitFigures With(LogitFigures other) => new(
        double.IsNaN(Error) ? Error : Math.Max(Error, other.Error),
        (Divergence * Positions + other.Divergence * other.Positions) / (Positions + other.Positions),
        (TopTokenAgreement * Positions + other.TopTokenAgreement * other.Positions) / (Positions + other.Positions),
        Positions + other.Positions);

    private static double LogSumOfExponentials(ReadOnlySpan<float> logits)
    {
        double largest = TensorPrimitives.Max(logits), sum = 0;
        foreach (float logit in logits)
            sum += Math.Exp(logit - largest);
        return largest + Math.Log(sum);
    }
}

/// <summary>How far visual tokens are from the trained model's.</summary>
/// <param name="Error">Largest |difference| of an element, over the root mean square of all.</param>
/// <param name="Cosine">Least cosine of a token with the trained model's.</param>
public sealed record VisualFigures(double Error, double Cosine);

/// <summary>
/// How far what was written, opened by the runtime, is from the trained model. Each figure has a limit by the type that was chosen; above it, nothing
/// is kept, unless the figure is accepted by its name.
/// </summary>
/// <param name="Type">What the language model is stored as.</param>
/// <param name="Visual">Null where a language model was written alone.</param>
/// <param name="Logits">Over prompts and greedy texts.</param>
public sealed record ParityFigures(LlmType Type, VisualFigures? Visual, LogitFigures Logits)
{
    /// <summary>Refuses what differs by more than its type explains.</summary>
    /// <param name="target">What was written; the message names it.</param>
    /// <param name="accepted">Names of figures that may be above their limit.</param>
    /// <exception cref="InputException">It does.</exception>
    public void ThrowIfApart(string target, IReadOnlyCollection<string>? accepted = null)
    {
        foreach (var (name, value, limit, isLeast) in Limits())
        {
            bool holds = isLeast ? value >= limit : value <= limit; // false for NaN
            if (!holds && accepted?.Contains(name) != true)
            {
                throw new InputException(target, FormattableString.Invariant(
                    $"the runtime parts from the trained model: {name} is {value:g4}, {(isLeast ? "at least" : "at most")} {limit:g4} was expected of {Type}; --accept {name} would keep it"));
            }
        }
    }

    /// <summary>Names of all figures that have a limit.</summary>
    public static IReadOnlyList<string> Names { get; } = ["visual_token_error", "visual_token_cosine", "logit_error", "logit_divergence", "top_token_agreement"];

    private IEnumerable<(string Name, double Value, double Limit, bool IsLeast)> Limits()
    {
        if (Visual is not null)
        {
            // Both sides compute in float32, summing in different orders; 16-bit weights add their rounding (Cosine).
            yield return (Names[0], Visual.Error, 0.05, false);
            yield return (Names[1], Visual.Cosine, 0.9999, true);
        }
        // F32 is float noise. The others are what a type may cost a trained model; figures of seeded models stand in docs/converter.md.
        var (error, divergence, agreement) = Type switch
        {
            LlmType.F32 => (1e-3, 1e-6, 1.0),
            LlmType.F16 => (double.PositiveInfinity, 1e-4, 0.98),
            LlmType.BF16 or LlmType.Q8_0 => (double.PositiveInfinity, 5e-3, 0.95),
            LlmType.Q6_K => (double.PositiveInfinity, 0.01, 0.92),
            LlmType.Q5_K_M => (double.PositiveInfinity, 0.03, 0.88),
            _ => (double.PositiveInfinity, 0.1, 0.8),
        };
        yield return (Names[2], Logits.Error, error, false);
        yield return (Names[3], Logits.Divergence, divergence, false);
        yield return (Names[4], Logits.TopTokenAgreement, agreement, true);
    }

    /// <summary>For the manifest.</summary>
    public JsonObject ToJson()
    {
        var json = new JsonObject { ["llm_type"] = $"{Type}" };
        if (Visual is not null)
        {
            json[Names[0]] = Visual.Error;
            json[Names[1]] = Visual.Cosine;
        }
        json[Names[2]] = Logits.Error;
        json[Names[3]] = Logits.Divergence;
        json[Names[4]] = Logits.TopTokenAgreement;
        json["positions"] = Logits.Positions;
        return json;
    }
}
