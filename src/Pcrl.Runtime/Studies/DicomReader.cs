using System.Collections.Concurrent;
using System.Numerics;

namespace Pcrl.Runtime.Studies;

/// <summary>
/// The largest axial CT series among DICOM files. Slices are ordered by their place along the slices' normal, which is also their
/// <see cref="StudySlice.Position"/>: with a tilted gantry the slices are sheared against each other, and the table's advance times the
/// tilt's cosine is what lies between their planes.
/// </summary>
internal static class DicomReader
{
    private const float AxialCosine = 0.7071f; // 45°
    private const float SameDirection = 0.999f; // 2.6°
    private const float SamePlace = 0.05f; // millimetres
    private const float BoneWindow = 1000; // wider than any window for soft tissue
    private const float SmallestTilt = 0.5f; // degrees; less is rounding in the header

    public static Study Read(string folder, IReadOnlyList<StudyFile> files, List<SetAside> setAside, CancellationToken cancellation)
    {
        var headers = StudyReader.ForEach(files, DicomFile.Read, cancellation);
        RequireOneStudy(folder, headers);

        var series = new List<List<(StudyFile File, DicomImage Image)>>();
        foreach (var (file, image, reason, _, _, _) in headers)
        {
            if ((image is null ? reason : PlaneProblem(image.Normal)) is { } problem)
            {
                setAside.Add(new SetAside(file.Source, problem));
                continue;
            }
            var mates = series.Find(s => BelongTogether(s[0].Image, image!));
            if (mates is null)
            {
                series.Add(mates = []);
            }
            mates.Add((file, image!));
        }
        // Scanners often reconstruct a head twice: smooth for the brain, and sharp and noisy for the bone.
        var largest = series.MaxBy(s => (s.Count >= StudyReader.MinimumSlices && s[0].Image.Window is not { Width: > BoneWindow }, s.Count)) ?? [];
        foreach (var (file, image) in series.Where(s => s != largest).SelectMany(s => s))
        {
            setAside.Add(new SetAside(file.Source, image.SeriesUid == largest[0].Image.SeriesUid
                ? "its orientation or size differs from most of the series" : "belongs to another series than most"));
        }

        var ordered = Order(largest, setAside);
        StudyReader.CheckCount(folder, ordered.Count, ordered.Count == 0 ? 0 : (long)ordered[0].Image.Rows * ordered[0].Image.Columns, setAside);
        var tables = new ConcurrentDictionary<PixelScale, float[]>();
        var slices = StudyReader.ForEach(ordered, s => Slice(s.File, s.Image, s.Position, tables), cancellation);
        return new Study("dicom", PixelUnit.Hounsfield, slices, setAside, Tilt(ordered), ordered[ordered.Count / 2].Image.Window);
    }

    // A missing id or name contradicts nothing.
    private static void RequireOneStudy(string folder, DicomFile[] files)
    {
        static bool Differ(IEnumerable<string> values) => values.Where(v => v != "").Distinct().Skip(1).Any();
        if (Differ(files.Select(f => f.PatientId)) || Differ(files.Select(f => f.PatientName)))
        {
            throw new InputException(folder, "holds more than one patient");
        }
        if (Differ(files.Select(f => f.StudyId)))
            throw new InputException(folder, "holds more than one study of a patient: give the folder of one");
    }

    private static string? PlaneProblem(Vector3 normal)
    {
        var size = Vector3.Abs(normal);
        return size.Z > AxialCosine ? null : size.X > size.Y && size.X > size.Z ? "a sagittal image, not an axial one"
            : size.Y > size.Z ? "a coronal image, not an axial one" : "an oblique image, not an axial one";
    }

    private static bool BelongTogether(DicomImage a, DicomImage b) =>
        a.SeriesUid == b.SeriesUid && a.Rows == b.Rows && a.Columns == b.Columns
        && Vector3.Dot(a.Row, b.Row) > SameDirection && Vector3.Dot(a.Column, b.Column) > SameDirection;

    private static List<(StudyFile File, DicomImage Image, float Position)> Order(List<(StudyFile File, DicomImage Image)> series, List<SetAside> setAside)
    {
        var ordered = new List<(StudyFile File, DicomImage Image, float Position)>();
        if (series.Count == 0)
        {
            return ordered;
        }
        var normal = Upward(series[0].Image.Normal);
        // A stable sort: of several images in one place the first by name stays.
        foreach (var (file, image) in series.OrderBy(s => Vector3.Dot(s.Image.Place, normal)))
        {
            float position = Vector3.Dot(image.Place, normal);
            if (ordered.Count > 0 && position - ordered[^1].Position < SamePlace)
            {
                setAside.Add(new SetAside(file.Source, $"lies where {ordered[^1].File.Source} does"));
                continue;
            }
            ordered.Add((file, image, position));
        }
        return ordered;
    }

    private static Vector3 Upward(Vector3 normal) => normal.Z < 0 ? -normal : normal;

    // What the header says, else the angle between the way from slice to slice and their normal.
    private static float Tilt(List<(StudyFile File, DicomImage Image, float Position)> ordered)
    {
        var (first, last) = (ordered[0].Image, ordered[^1].Image);
        if (ordered[ordered.Count / 2].Image.Tilt is not 0 and var tilt)
        {
            return tilt;
        }
        float cosine = MathF.Abs(Vector3.Dot(Vector3.Normalize(last.Place - first.Place), first.Normal));
        float angle = float.RadiansToDegrees(MathF.Acos(MathF.Min(1, cosine)));
        return angle < SmallestTilt ? 0 : angle;
    }

    private static StudySlice Slice(StudyFile file, DicomImage image, float position, ConcurrentDictionary<PixelScale, float[]> tables)
    {
        byte[] stored = GC.AllocateUninitializedArray<byte>(image.PixelBytes);
        using (var handle = File.OpenHandle(file.Path))
        {
            for (int read = 0, part; read < stored.Length; read += part)
            {
                part = RandomAccess.Read(handle, stored.AsSpan(read), image.PixelOffset + read);
                if (part == 0)
                {
                    throw new InputException(file.Path, "the file became shorter while it was read");
                }
            }
        }
        // Display x runs to the patient's left (+x), display y to posterior (+y).
        bool turned = MathF.Abs(image.Row.X) < MathF.Abs(image.Column.X);
        var row = new StoredAxis(image.Columns, 1, (turned ? image.Row.Y : image.Row.X) < 0);
        var column = new StoredAxis(image.Rows, image.Columns, (turned ? image.Column.X : image.Column.Y) < 0);
        var walk = turned ? PixelWalk.Over(column, row) : PixelWalk.Over(row, column);
        return new StudySlice(
            file.Source, SlicePixels.Of(stored, walk, image.Scale, tables),
            turned ? image.SpacingAlongColumn : image.SpacingAlongRow, turned ? image.SpacingAlongRow : image.SpacingAlongColumn,
            position, image.Thickness);
    }
}
