using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;
using Pcrl.Train.Clues;
using Pcrl.Train.Fitting;

namespace Pcrl.Train.Data;

/// <summary>The studies of a joint fit, apart by patient.</summary>
/// <param name="Description">What they are, for metrics and model cards.</param>
/// <param name="Training">To learn from.</param>
/// <param name="Validation">To look at while learning; may be empty.</param>
/// <param name="HeldOut">To measure on.</param>
public sealed record StudySplit(
    string Description, IReadOnlyList<TrainingStudy> Training, IReadOnlyList<TrainingStudy> Validation, IReadOnlyList<TrainingStudy> HeldOut)
{
    /// <summary>SHA-256 over slices and findings of all studies, with the labels of scans and the clues that were prepared.</summary>
    public string Hash => field ??= Digest(Training, Validation, HeldOut);

    /// <summary>What stands in more than one part.</summary>
    public Leakage Leakage => field ??= Leakage.Of(Training, Validation, HeldOut);

    /// <summary>The studies that a configuration's data set brings along; null where it asks for phantoms.</summary>
    /// <param name="config">The run.</param>
    /// <param name="progress">Told about every study.</param>
    /// <param name="cancellation">Stops between two studies.</param>
    /// <exception cref="Runtime.InputException">The data set cannot be read or is too small to split.</exception>
    internal static StudySplit? Brought(RunConfig config, IProgress<StageProgress> progress, CancellationToken cancellation)
    {
        var (data, size) = (config.Data, config.Visual.ImageSize);
        return data.Source switch
        {
            "ctrg" => ByPatient("CTRG-Brain", Ctrg.Load(data.Path!, data.Clues, size, progress, cancellation), data),
            "ct-ich" => ByPatient("scans of CT-ICH (CC BY 4.0) with label-derived text", [.. RealStudies.Load(data.Path!, size, cancellation).Select(s => (s.Patient, s.Study))], data),
            _ => null,
        };
    }

    /// <summary>Phantoms: those that trunk and LLM learned from, and others to validate and to measure on.</summary>
    /// <exception cref="Runtime.InputException">A file of prepared clues cannot be read.</exception>
    internal static StudySplit OfPhantoms(
        RunConfig config, IReadOnlyList<TrainingStudy> training, IProgress<StageProgress> progress, CancellationToken cancellation)
    {
        List<TrainingStudy> Others(string stage, ulong seed, int count) => TrainingStudy.Produce(
            stage, seed, count, config.Threads, TrainingStudy.Maker(config, config.Phantoms.Difficulty), progress, cancellation);
        return new StudySplit("synthetic phantoms", WithClues(training, config.Data.Clues),
            Others("validation", config.Phantoms.ValidationSeed, config.Phantoms.Validation),
            Others("held-out", config.Phantoms.HeldOutSeed, config.Phantoms.HeldOut));
    }

    /// <summary>7:1:2 of the patients, in an order that only the seed decides.</summary>
    private static StudySplit ByPatient(string description, List<(string Patient, TrainingStudy Study)> studies, DataConfig data)
    {
        string[] patients = [.. studies.Select(s => s.Patient).Distinct().Order(StringComparer.Ordinal)];
        new Random(data.SplitSeed).Shuffle(patients);
        var part = patients.Select((patient, i) => (patient, Part: Part(i, patients.Length))).ToDictionary(p => p.patient, p => p.Part);
        List<TrainingStudy> Of(int wanted) => [.. studies.Where(s => part[s.Patient] == wanted).Select(s => s.Study)];
        return Of(0).Count == 0 || Of(1).Count == 0 || Of(2).Count == 0
            ? throw new Runtime.InputException(data.Path!, $"has studies of {patients.Length} patients, too few for a split of 7:1:2")
            : new StudySplit(description, Of(0), Of(1), Of(2));
    }

    /// <summary>0 for training, 1 for validation, 2 for held-out.</summary>
    internal static int Part(int patient, int patients) => 10L * patient < 7L * patients ? 0 : 10L * patient < 8L * patients ? 1 : 2;

    /// <summary>Phantoms with the clues that <c>prepare</c> found on them in place of the true ones.</summary>
    private static IReadOnlyList<TrainingStudy> WithClues(IReadOnlyList<TrainingStudy> phantoms, string? folder) => folder is null ? phantoms
        : [.. phantoms.Select(p => p with { Clues = StudyClues.Load(PrepareRun.FileOf(folder, $"phantom-{p.Seed}")).Slices(), Findings = [p.Findings[0]] })];

    /// <summary>SHA-256 over all that is learned from studies.</summary>
    internal static string Digest(params IReadOnlyList<TrainingStudy>[] parts)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        Span<byte> length = stackalloc byte[4];
        foreach (var part in parts)
        {
            BinaryPrimitives.WriteInt32LittleEndian(length, part.Count);
            hash.AppendData(length);
            foreach (var study in part)
            {
                hash.AppendData(study.Slices);
                hash.AppendData(Encoding.UTF8.GetBytes(string.Join('\n', study.Findings)));
                if (study.Raster is null)
                    hash.AppendData(study.Labels); // those of a phantom follow from its seed, as its slices do
                foreach (var clue in study.Clues ?? [])
                    hash.AppendData(Encoding.UTF8.GetBytes($"{clue.Slice} {clue.Mask.ToText()} {clue.Text}"));
            }
        }
        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }
}
