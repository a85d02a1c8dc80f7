using Pcrl.Train.Data;
using Pcrl.Train.Losses;
using static TorchSharp.torch;

namespace Pcrl.Train.Fitting;

/// <summary>
/// What the trunk is asked: the slice labels, and two coarser ones for each fine one, "place:Frontal:Left" and "side:Left".
/// Each fine label is seen on a few dozen studies only; what they share is seen on hundreds.
/// </summary>
internal sealed class TrunkTargets
{
    private readonly int[][] _of; // targets that a slice label switches on
    private readonly bool[] _placed; // targets that tell a lesion's side or region

    private TrunkTargets()
    {
        var names = new List<string>(SliceLabels.Names);
        _of = new int[SliceLabels.Count][];
        int Index(string name)
        {
            if (!names.Contains(name))
                names.Add(name);
            return names.IndexOf(name);
        }
        for (int label = 0; label < _of.Length; label++)
        {
            string[] parts = SliceLabels.Names[label].Split(':');
            bool lesion = Enum.TryParse<Evaluation.LesionKind>(parts[0], out _);
            var targets = new List<int> { label };
            if (lesion)
            {
                targets.Add(SliceLabels.IndexOf($"kind:{parts[0]}"));
                if (parts.Length == 3 || parts[^1] == "BrainStem")
                    targets.Add(Index("place:" + string.Join(':', parts[1..])));
                if (parts[^1] is "Left" or "Right")
                    targets.Add(Index($"side:{parts[^1]}"));
            }
            _of[label] = [.. targets];
        }
        Names = names;
        _placed = [.. names.Select(name => name.Split(':')[0] is "place" or "side" || Enum.TryParse<Evaluation.LesionKind>(name.Split(':')[0], out _))];
    }

    /// <summary>The one list there is.</summary>
    public static TrunkTargets All { get; } = new();

    /// <summary>Names of the targets; the slice labels come first.</summary>
    public IReadOnlyList<string> Names { get; }

    public int Count => Names.Count;

    /// <summary>Targets of whole slices: [N, targets], 0, 1 or negative where nobody knows.</summary>
    /// <param name="studies">Where the slices are.</param>
    /// <param name="picks">The slices.</param>
    /// <param name="places">Whether side and region of lesions are known.</param>
    public Tensor OfSlices(IReadOnlyList<TrainingStudy> studies, (int Study, int Slice)[] picks, bool places)
    {
        var values = new float[picks.Length * Count];
        for (int i = 0; i < picks.Length; i++)
        {
            for (int label = 0; label < SliceLabels.Count; label++)
            {
                byte known = studies[picks[i].Study].Labels[picks[i].Slice * SliceLabels.Count + label];
                foreach (int target in _of[label])
                {
                    ref float value = ref values[i * Count + target];
                    value = known switch
                    {
                        _ when !places && _placed[target] => -1,
                        1 => 1,
                        TrainingStudy.Unknown when value == 0 && target >= label => -1,
                        _ => value,
                    };
                }
            }
        }
        return tensor(values).view(picks.Length, Count);
    }

    /// <summary>
    /// Targets of whole slices as the cells of a slice without a raster are asked them together: [N, targets], negative where a raster says more. Which blood it is tells
    /// that it is blood, which no cell is asked.
    /// </summary>
    /// <param name="studies">Where the slices are.</param>
    /// <param name="picks">The slices.</param>
    /// <param name="slices">Their targets.</param>
    public static Tensor Somewhere(IReadOnlyList<TrainingStudy> studies, (int Study, int Slice)[] picks, Tensor slices)
    {
        using var scope = NewDisposeScope();
        var somewhere = where(tensor(picks.Select(p => studies[p.Study].Raster is null).ToArray()).unsqueeze(1), slices, -1);
        somewhere.select(1, SliceLabels.IndexOf("any-blood")).fill_(-1);
        return somewhere.MoveToOuterDisposeScope();
    }

    /// <summary>
    /// Lesion targets [N, h, h, targets] and the commonest organ [N, h, h] (int64) of each cell of an output, after the slices were moved.
    /// </summary>
    public (Tensor Lesions, Tensor Organs) OfCells(
        IReadOnlyList<TrainingStudy> studies, (int Study, int Slice)[] picks, SliceAugmentation.Move[] moves, int height)
    {
        const int side = SliceRaster.Side;
        int enough = Math.Max(1, side * side / height / height / 32); // raster cells that make a lesion visible in an output cell
        var lesions = new float[picks.Length * height * height * Count];
        var organs = new long[picks.Length * height * height];
        var labelCounts = new int[height * height, SliceLabels.Count];
        var organCounts = new int[height * height, OrganCount];
        for (int i = 0; i < picks.Length; i++)
        {
            Array.Clear(labelCounts);
            Array.Clear(organCounts);
            if (studies[picks[i].Study].Raster is not { } raster)
            {
                lesions.AsSpan(i * height * height * Count, height * height * Count).Fill(-1);
                organs.AsSpan(i * height * height, height * height).Fill(LanguageModelLoss.Ignored);
                continue;
            }
            int start = picks[i].Slice * side * side;
            for (int y = 0; y < side; y++)
            {
                for (int x = 0; x < side; x++)
                {
                    var (fromX, fromY) = moves[i].Source((2 * x + 1f) / side - 1, (2 * y + 1f) / side - 1);
                    int column = (int)((fromX + 1) * side / 2), row = (int)((fromY + 1) * side / 2);
                    if ((uint)column >= side || (uint)row >= side)
                        continue;
                    int cell = y * height / side * height + x * height / side;
                    if (raster.Lesions[start + row * side + column] is > 0 and var label)
                        labelCounts[cell, label - 1]++;
                    organCounts[cell, raster.Organs[start + row * side + column]]++;
                }
            }
            for (int cell = 0; cell < height * height; cell++)
            {
                for (int label = 0; label < SliceLabels.Count; label++)
                {
                    if (labelCounts[cell, label] >= enough)
                    {
                        foreach (int target in _of[label])
                            lesions[(i * height * height + cell) * Count + target] = 1;
                    }
                }
                int best = 0;
                for (int organ = 1; organ < OrganCount; organ++)
                    best = organCounts[cell, organ] > organCounts[cell, best] ? organ : best;
                organs[i * height * height + cell] = best;
            }
        }
        return (tensor(lesions).view(picks.Length, height, height, Count), tensor(organs).view(picks.Length, height, height));
    }

    /// <summary>Classes of <see cref="OfCells"/>' organs.</summary>
    public static int OrganCount { get; } = 2 * Enum.GetValues<PhantomOrgan>().Length;
}
