using Pcrl.Train.Data;
using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Train.Clues;

/// <summary>Some points on each of some slices, all mirrored or none: a mirrored head is a head, as sides have no names here.</summary>
internal sealed class MiniSamPrompts
{
    /// <summary>The kind that is the whole head, behind <see cref="PhantomOrgan"/> and <see cref="TrainingSlice.Lesion"/>.</summary>
    public const int Head = TrainingSlice.Lesion + 1;

    /// <summary>
    /// Kinds behind <see cref="Head"/>: organs that lie together. A gallery holds a slice's large masks only; without these no mask in it would have ventricles, thalamus, brain
    /// stem or sinuses inside.
    /// </summary>
    private static readonly PhantomOrgan[][] Regions =
    [
        [PhantomOrgan.BasalGanglia, PhantomOrgan.Thalamus, PhantomOrgan.LateralVentricle, PhantomOrgan.ThirdVentricle],
        [PhantomOrgan.Cerebellum, PhantomOrgan.BrainStem, PhantomOrgan.FourthVentricle],
        [PhantomOrgan.Bone, PhantomOrgan.MaxillarySinus, PhantomOrgan.EthmoidSinus, PhantomOrgan.SphenoidSinus, PhantomOrgan.OtherSinus],
    ];

    /// <summary>How many kinds there are.</summary>
    public static readonly int Count = Head + 1 + Regions.Length;

    private readonly TrainingSlice[] _slices;
    private readonly int[] _at;
    private readonly bool _mirrored;
    private readonly int _side;

    public MiniSamPrompts(TrainingSlice[] slices, int each, Random random)
    {
        _slices = slices;
        _side = (int)Math.Sqrt(slices[0].Pixels.Length);
        _mirrored = random.Next(2) == 0;
        _at = [.. slices.SelectMany(s => Enumerable.Range(0, each).Select(_ => Point(s, random)))];
        Points = tensor(_at.SelectMany(at => new float[] { _mirrored ? _side - 1 - at % _side : at % _side, at / _side }).ToArray()).view(-1, 1, 2);
        Kinds = [.. _at.SelectMany((at, i) =>
        {
            byte organ = SliceOf(i).Organs[at];
            return new long[] { SliceOf(i).Labels[at], RegionOf(organ), organ == (byte)PhantomOrgan.Outside ? organ : Head };
        })];
    }

    /// <summary>[N, 1, 2].</summary>
    public Tensor Points { get; }

    /// <summary>What a point's three masks show: the lesion or else the organ there; its region; the head.</summary>
    public long[] Kinds { get; }

    /// <summary>Whether an organ's pixels belong to a kind.</summary>
    public static bool IsPart(int organ, int kind) =>
        kind == organ || (kind == Head && organ != (int)PhantomOrgan.Outside) || (kind > Head && Regions[kind - Head - 1].Contains((PhantomOrgan)organ));

    /// <summary>The region that an organ lies in; those of none are their own.</summary>
    private static int RegionOf(int organ) => Enumerable.Range(Head + 1, Regions.Length).FirstOrDefault(kind => IsPart(organ, kind), organ);

    private TrainingSlice SliceOf(int point) => _slices[point / (_at.Length / _slices.Length)];

    /// <summary>The slices: [B, 3, S, S].</summary>
    public Tensor Shown() => Picture(s => s.Pixels).unsqueeze(1).expand(-1, 3, -1, -1).to(float32);

    /// <summary><see cref="PhantomOrgan"/> of every pixel: [B, S, S].</summary>
    public Tensor Organs() => Picture(s => s.Organs);

    /// <summary>The same with lesions above the organs: [B, S, S].</summary>
    public Tensor Labels() => Picture(s => s.Labels);

    private Tensor Picture(Func<TrainingSlice, byte[]> of)
    {
        var picture = tensor(_slices.SelectMany(of).ToArray(), uint8).view(-1, _side, _side);
        return _mirrored ? picture.flip(2) : picture;
    }

    /// <summary>
    /// Any organ of the slice as often as any other, most often; lesions, which few slices have, more often; else anywhere, so that the model learns where there
    /// is nothing.
    /// </summary>
    private static int Point(TrainingSlice slice, Random random)
    {
        int label = random.Next(6) switch
        {
            0 => -1,
            1 or 2 when slice.Present.Contains(TrainingSlice.Lesion) => TrainingSlice.Lesion,
            _ => slice.Present[random.Next(slice.Present.Length)],
        };
        while (true)
        {
            int at = random.Next(slice.Labels.Length);
            if (label < 0 || slice.Labels[at] == label)
                return at;
        }
    }
}
