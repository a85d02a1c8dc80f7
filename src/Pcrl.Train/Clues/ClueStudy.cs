using System.Text.Json;
using System.Text.RegularExpressions;
using Pcrl.Runtime;
using Pcrl.Runtime.Studies;
using Pcrl.Train.Data;

namespace Pcrl.Train.Clues;

/// <summary>A study with its findings, as clues are made from it.</summary>
/// <param name="Id">Name in the data set; becomes a file name.</param>
/// <param name="ImageSize">Side of the slices.</param>
/// <param name="Slices">[24, S, S] grey values 0 to 255, caudal to cranial.</param>
/// <param name="Findings">As they were typed.</param>
public sealed record ClueStudy(string Id, int ImageSize, byte[] Slices, string Findings)
{
    /// <summary>One slice, row-major.</summary>
    public ReadOnlySpan<byte> Slice(int index) => Slices.AsSpan(index * ImageSize * ImageSize, ImageSize * ImageSize);

    /// <summary>A study on disk, windowed, cropped and resized as everywhere.</summary>
    /// <exception cref="InputException">It cannot be read.</exception>
    public static ClueStudy Read(string id, string path, string findings, int imageSize, CancellationToken cancellation) =>
        Prepare(id, StudyReader.Read(path, cancellation), findings, imageSize);

    /// <summary>A study already in memory.</summary>
    public static ClueStudy Prepare(string id, Study study, string findings, int imageSize)
    {
        float[] images = SliceImages.Prepare(study, SliceSelector.Select(study), imageSize, WindowChoice.Brain);
        return new ClueStudy(id, imageSize, TrainingStudy.ToBytes(images), findings);
    }
}

/// <summary>Studies with findings, opened one at a time.</summary>
/// <param name="Ids">Names of the studies, in order.</param>
/// <param name="Open">Reads the study at an index at a given image size.</param>
public sealed partial record ClueDataset(IReadOnlyList<string> Ids, Func<int, int, CancellationToken, ClueStudy> Open)
{
    private const string PhantomPrefix = "phantoms:";

    private const int MostPhantoms = 100_000;

    private sealed record Entry(string Id, string Study, string Findings);

    private static readonly JsonSerializerOptions Form = JsonFile.Form(JsonNamingPolicy.SnakeCaseLower);

    /// <summary>
    /// Opens <c>phantoms:COUNT</c> or <c>phantoms:COUNT@SEED</c>, or a JSON file <c>[{"id": …, "study": PATH, "findings": …}]</c> with paths relative to it
    /// (or the folder that holds it as <c>dataset.json</c>).
    /// </summary>
    /// <exception cref="InputException">No such data set, or not of this form.</exception>
    public static ClueDataset Find(string source, PhantomOptions phantoms)
    {
        if (source.StartsWith(PhantomPrefix, StringComparison.Ordinal))
        {
            string[] parts = source[PhantomPrefix.Length..].Split('@');
            ulong seed = 900_000_000;
            if (!int.TryParse(parts[0], out int count) || count is < 1 or > MostPhantoms || parts.Length > 2 || (parts.Length == 2 && !ulong.TryParse(parts[1], out seed)))
                throw new InputException(source, $"is not of the form phantoms:COUNT@SEED, with a count of 1 to {MostPhantoms}");
            return new ClueDataset([.. Enumerable.Range(0, count).Select(i => $"phantom-{seed + (ulong)i}")], (i, size, _) =>
            {
                var phantom = PhantomGenerator.Create(seed + (ulong)i, phantoms);
                return ClueStudy.Prepare($"phantom-{phantom.Seed}", phantom.Study, phantom.Findings, size);
            });
        }
        string file = Directory.Exists(source) ? Path.Combine(source, "dataset.json") : source;
        var entries = ReadEntries(file);
        string folder = Path.GetDirectoryName(Path.GetFullPath(file))!;
        return new ClueDataset([.. entries.Select(e => e.Id)], (i, size, cancellation) =>
            ClueStudy.Read(entries[i].Id, Path.Combine(folder, entries[i].Study), entries[i].Findings, size, cancellation));
    }

    private static Entry[] ReadEntries(string file)
    {
        var entries = JsonFile.Read<Entry[]>(file, "a usable data set", Form);
        if (entries.Length == 0)
            throw new InputException(file, "names no studies");
        if (entries.FirstOrDefault(e => !IsSafeId(e.Id)) is { } unsafeEntry)
            throw new InputException(file, $"has an id that is no file name: '{unsafeEntry.Id}'");
        if (entries.GroupBy(e => e.Id).FirstOrDefault(g => g.Count() > 1) is { } twice)
            throw new InputException(file, $"names study {twice.Key} twice");
        return entries;
    }

    /// <summary>Whether an id may become a file name.</summary>
    internal static bool IsSafeId(string id) => SafeId().IsMatch(id);

    [GeneratedRegex(@"^[A-Za-z0-9_][A-Za-z0-9._-]{0,100}\z")]
    private static partial Regex SafeId();
}
