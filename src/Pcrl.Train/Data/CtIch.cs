using System.Globalization;
using Pcrl.Runtime;
using Pcrl.Train.Evaluation;

namespace Pcrl.Train.Data;

/// <summary>One labelled picture of the CT-ICH data set.</summary>
/// <param name="Number">Slice number, 1 = most caudal.</param>
/// <param name="Picture">Path of the JPEG.</param>
/// <param name="Bleeds">Kinds of haemorrhage the labels name; empty when there is none.</param>
/// <param name="Fracture">A skull fracture is labelled.</param>
public sealed record CtIchSlice(int Number, string Picture, IReadOnlyList<LesionKind> Bleeds, bool Fracture);

/// <summary>One scan of the CT-ICH data set (PhysioNet CT-ICH, CC BY 4.0).</summary>
/// <param name="Patient">The data set's number of the person.</param>
/// <param name="Slices">Labelled slices whose picture is there, caudal to cranial.</param>
public sealed record CtIchScan(string Patient, IReadOnlyList<CtIchSlice> Slices);

/// <summary>Reads a folder of CT-ICH scans: <c>labels.csv</c> and one folder of JPEGs per patient.</summary>
public static class CtIch
{
    private const long LargestCsv = 16 << 20;

    private static readonly string[] Columns =
        ["patient", "slice", "intraventricular", "intraparenchymal", "subarachnoid", "epidural", "subdural", "no_hemorrhage", "fracture"];

    private static readonly LesionKind[] Kinds =
        [LesionKind.Intraventricular, LesionKind.Haemorrhage, LesionKind.Subarachnoid, LesionKind.Epidural, LesionKind.Subdural];

    /// <summary>Reads the labels and pairs them with the pictures; a labelled slice without a picture is left out.</summary>
    /// <param name="folder">The folder that holds <c>labels.csv</c>.</param>
    /// <returns>Scans in the order of their numbers.</returns>
    /// <exception cref="InputException">There is no <c>labels.csv</c>, a line of it is malformed, or no picture belongs to it.</exception>
    public static IReadOnlyList<CtIchScan> Load(string folder)
    {
        string csv = Path.Combine(folder, "labels.csv");
        string[] lines;
        try
        {
            var file = new FileInfo(csv);
            if (!file.Exists) throw new InputException(csv, "there is no such file");
            if (file.Length > LargestCsv) throw new InputException(csv, "is too large for a table of slice labels");
            lines = File.ReadAllLines(csv);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw InputException.Unreadable(csv, e);
        }
        if (lines.Length == 0 || !lines[0].Trim().Split(',').SequenceEqual(Columns))
            throw new InputException(csv, $"the first line must be {string.Join(',', Columns)}");

        var scans = new SortedDictionary<string, SortedDictionary<int, CtIchSlice>>(StringComparer.Ordinal);
        int labelled = 0;
        for (int n = 1; n < lines.Length; n++)
        {
            if (lines[n].Trim().Length == 0) continue;
            var (patient, slice) = Parse(lines[n].Trim(), folder, problem => new InputException(csv, $"line {n + 1}: {problem}"));
            labelled++;
            if (!scans.TryGetValue(patient, out var scan)) scans[patient] = scan = [];
            if (!scan.TryAdd(slice.Number, slice)) throw new InputException(csv, $"line {n + 1}: this slice is labelled twice");
        }
        var result = scans
            .Select(s => new CtIchScan(s.Key, [.. s.Value.Values.Where(slice => File.Exists(slice.Picture))]))
            .Where(s => s.Slices.Count > 0).ToList();
        if (result.Count == 0) throw new InputException(folder, $"none of the {labelled} labelled slices has a picture");
        return result;
    }

    private static (string Patient, CtIchSlice Slice) Parse(string line, string folder, Func<string, InputException> error)
    {
        string[] cells = line.Split(',');
        if (cells.Length != Columns.Length) throw error($"{cells.Length} columns instead of {Columns.Length}");
        string patient = cells[0];
        // Digits only: the name becomes part of a path.
        if (patient.Length is 0 or > 8 || !patient.All(char.IsAsciiDigit)) throw error("the patient is not a number");
        if (!int.TryParse(cells[1], NumberStyles.None, CultureInfo.InvariantCulture, out int number) || number is < 1 or > 9999)
            throw error("the slice is not a number from 1");
        for (int i = 2; i < cells.Length; i++)
            if (cells[i] is not ("0" or "1")) throw error($"{Columns[i]} is neither 0 nor 1");
        List<LesionKind> bleeds = [.. Kinds.Where((_, i) => cells[2 + i] == "1")];
        if (bleeds.Count > 0 == (cells[7] == "1")) throw error("no_hemorrhage contradicts the kinds");
        string picture = Path.Combine(folder, patient, $"{number:D2}.jpg");
        return (patient, new CtIchSlice(number, picture, bleeds, cells[8] == "1"));
    }
}
