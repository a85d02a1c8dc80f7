namespace Pcrl.Runtime.Studies;

/// <summary>
/// Notices pictures that run from vertex to skull base. Headers of DICOM and NIfTI say which end is which; file names don't, and both orders are in use.
/// </summary>
internal static class SliceOrder
{
    /// <summary>By how much the brain must fill the head better at the first end than at the last.</summary>
    private const double Clearly = 1.2;

    /// <summary>Turns the series round when two signs agree that it begins at the vertex; otherwise the names' order stands.</summary>
    public static Study CaudalFirst(Study study)
    {
        var profiles = HeadProfile.OfEach(study);
        int count = profiles.Length, end = Math.Max(2, count / 10);
        double total = profiles.Sum(p => (double)p.Largest);
        if (total == 0)
            return study;
        // Face and neck lie below the brain, nothing above it: its weight is in the cranial half.
        double centre = profiles.Select((p, i) => i * p.Largest).Sum() / total / (count - 1);
        // And under the vertex most of what is not air is brain, under the skull base little is.
        double Filled(Range slices) => Enumerable.Range(0, count).Take(slices).Average(i => profiles[i].Largest / (double)Bright(study.Slices[i]));
        double first = Filled(..end), last = Filled(^end..);
        return centre >= 0.5 || first <= Clearly * last ? study : study with
        {
            Slices = [.. study.Slices.Reverse()],
            Notes = [.. study.Notes, "the first picture shows the vertex: the series was turned round"],
        };
    }

    // Of every seventh pixel, plus 1: a share of an empty slice is 0. Pictures have no spacing, so areas are in pixels here and there.
    private static int Bright(StudySlice slice)
    {
        const float air = 30;
        const int apart = 7;
        int count = 1;
        float[] row = new float[slice.Width / apart + 1];
        for (int y = 0; y < slice.Height; y++)
        {
            int x = (apart - y * slice.Width % apart) % apart;
            var seen = row.AsSpan(0, (slice.Width - x + apart - 1) / apart);
            slice.Pixels.Read(y, x, apart, seen);
            foreach (float pixel in seen)
                count += pixel > air ? apart : 0;
        }
        return count;
    }
}
