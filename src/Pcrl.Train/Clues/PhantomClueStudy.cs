using Pcrl.Runtime.Studies;
using Pcrl.Train.Data;

namespace Pcrl.Train.Clues;

/// <summary>A thing on a prepared slice of a phantom, known exactly.</summary>
/// <param name="Slice">Index 0 to 23.</param>
/// <param name="Organ">The organ it is, or lies in.</param>
/// <param name="IsLesion">A lesion rather than an organ.</param>
/// <param name="Mask">[S, S] row-major.</param>
/// <param name="Area">Pixels.</param>
public sealed record PhantomThing(int Slice, PhantomOrgan Organ, bool IsLesion, bool[] Mask, int Area);

/// <summary>A phantom as clues are made from it, with what is really where.</summary>
/// <param name="Study">The study.</param>
/// <param name="OrganMap">[24, S, S]: organ of every pixel of the prepared slices.</param>
/// <param name="LesionMap">[24, S, S]: 0, or 1 + the lesion's number.</param>
public sealed record PhantomClueStudy(ClueStudy Study, byte[] OrganMap, byte[] LesionMap)
{
    /// <summary>Organs that carry an entity's name; entities without one are not drawn as a region of their own.</summary>
    private static readonly Dictionary<string, PhantomOrgan[]> OrgansOfEntity = new()
    {
        ["上颌窦"] = [PhantomOrgan.MaxillarySinus],
        ["筛窦"] = [PhantomOrgan.EthmoidSinus],
        ["蝶窦"] = [PhantomOrgan.SphenoidSinus],
        ["第四脑室"] = [PhantomOrgan.FourthVentricle],
        ["脑干"] = [PhantomOrgan.BrainStem],
        ["中脑"] = [PhantomOrgan.BrainStem],
        ["小脑"] = [PhantomOrgan.Cerebellum],
        ["小脑半球"] = [PhantomOrgan.Cerebellum],
        ["额叶"] = [PhantomOrgan.Frontal],
        ["颞叶"] = [PhantomOrgan.Temporal],
        ["枕叶"] = [PhantomOrgan.Occipital],
        ["顶叶"] = [PhantomOrgan.Parietal],
        ["颞枕叶"] = [PhantomOrgan.Temporal, PhantomOrgan.Occipital],
        ["丘脑"] = [PhantomOrgan.Thalamus],
        ["基底节区"] = [PhantomOrgan.BasalGanglia],
        ["侧脑室"] = [PhantomOrgan.LateralVentricle],
        ["第三脑室"] = [PhantomOrgan.ThirdVentricle],
        ["脑室"] = [PhantomOrgan.LateralVentricle, PhantomOrgan.ThirdVentricle, PhantomOrgan.FourthVentricle],
        ["小脑幕"] = [PhantomOrgan.Tentorium],
        ["大脑镰"] = [PhantomOrgan.Falx],
        ["中线"] = [PhantomOrgan.Falx, PhantomOrgan.ThirdVentricle],
        ["脑沟"] = [PhantomOrgan.Sulcus],
        ["脑实质"] = [PhantomOrgan.Frontal, PhantomOrgan.Temporal, PhantomOrgan.Parietal, PhantomOrgan.Occipital],
    };

    /// <summary>The organs that an entity's name means in a phantom; empty where it isn't drawn as one.</summary>
    public static IReadOnlyList<PhantomOrgan> OrgansOf(string entity) => OrgansOfEntity.GetValueOrDefault(entity, []);

    /// <summary>Makes the phantom of a seed and takes its masks down the same road as its slices.</summary>
    public static PhantomClueStudy Create(ulong seed, PhantomOptions options, int imageSize)
    {
        var phantom = PhantomGenerator.Create(seed, options);
        var selection = SliceSelector.Select(phantom.Study);
        var study = ClueStudy.Prepare($"phantom-{seed}", phantom.Study, phantom.Findings, imageSize);
        var (columns, rows) = SliceRaster.Origins(phantom.Study, selection, imageSize);
        int side = phantom.Study.Slices[0].Width;
        var organs = new byte[study.Slices.Length];
        var lesions = new byte[study.Slices.Length];
        for (int i = 0; i < organs.Length; i++)
        {
            int cell = i % (imageSize * imageSize);
            if (columns[cell] < 0 || rows[cell] < 0)
                continue;
            int voxel = (selection.Slices[i / (imageSize * imageSize)].Slice * side + rows[cell]) * side + columns[cell];
            organs[i] = phantom.Masks.Organs[voxel];
            lesions[i] = phantom.Masks.Lesions[voxel];
        }
        return new PhantomClueStudy(study, organs, lesions);
    }

    /// <summary>Organs of a slice, row-major.</summary>
    public ReadOnlySpan<byte> OrgansOf(int slice) => OrganMap.AsSpan(slice * Study.ImageSize * Study.ImageSize, Study.ImageSize * Study.ImageSize);

    /// <summary>The pixels of an entity on a slice.</summary>
    public bool[] EntityMask(string entity, int slice)
    {
        var named = OrgansOf(entity);
        var mask = new bool[Study.ImageSize * Study.ImageSize];
        for (int i = 0; i < mask.Length; i++)
            mask[i] = named.Contains((PhantomOrgan)OrganMap[slice * mask.Length + i]);
        return mask;
    }

    /// <summary>Every organ of a slice with all its parts, where it has at least <paramref name="smallest"/> pixels.</summary>
    public IEnumerable<PhantomThing> Organs(int slice, int smallest)
    {
        byte[] organs = OrgansOf(slice).ToArray();
        foreach (byte organ in organs.Distinct().Order().Where(o => IsThing((PhantomOrgan)o)))
        {
            int area = organs.Count(o => o == organ);
            if (area >= smallest)
                yield return new PhantomThing(slice, (PhantomOrgan)organ, false, Array.ConvertAll(organs, o => o == organ), area);
        }
    }

    /// <summary>Connected parts of organs, and lesions, of a slice with at least <paramref name="smallest"/> pixels.</summary>
    public IEnumerable<PhantomThing> Things(int slice, int smallest)
    {
        int side = Study.ImageSize, pixels = side * side;
        foreach (var organ in Organs(slice, smallest))
        {
            foreach (bool[] part in Connected(organ.Mask, side, smallest))
                yield return organ with { Mask = part, Area = part.Count(m => m) };
        }
        byte[] organs = OrgansOf(slice).ToArray(), lesions = LesionMap[(slice * pixels)..((slice + 1) * pixels)];
        foreach (byte lesion in lesions.Distinct().Where(l => l > 0).Order())
        {
            foreach (bool[] mask in Connected(Array.ConvertAll(lesions, l => l == lesion), side, smallest))
                yield return new PhantomThing(slice, (PhantomOrgan)organs[Array.IndexOf(mask, true)], true, mask, mask.Count(m => m));
        }
    }

    private static bool IsThing(PhantomOrgan organ) =>
        organ is not (PhantomOrgan.Outside or PhantomOrgan.SoftTissue or PhantomOrgan.Airway or PhantomOrgan.OtherSinus);

    private static IEnumerable<bool[]> Connected(bool[] mask, int side, int smallest)
    {
        var (labels, sizes) = MaskGeometry.Components(mask, side, side, value: true);
        for (int i = 0; i < sizes.Count; i++)
        {
            int label = i;
            if (sizes[i] >= smallest)
                yield return Array.ConvertAll(labels, l => l == label);
        }
    }
}
