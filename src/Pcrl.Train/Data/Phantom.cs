using Pcrl.Runtime.Studies;
using Pcrl.Train.Evaluation;

namespace Pcrl.Train.Data;

/// <summary>How a phantom is to be made.</summary>
public sealed record PhantomOptions
{
    /// <summary>Rows and columns of every slice, 32 to 1024.</summary>
    public int ImageSize { get; init; } = 128;

    /// <summary>0 (large lesions of strong contrast, little noise) to 1 (small, faint, noisy). 0.5 is a realistic mixture.</summary>
    public float Difficulty { get; init; } = 0.5f;
}

/// <summary>Size of a lesion by its longest side.</summary>
public enum LesionSize
{
    /// <summary>Under 20 mm (extra-axial: thinner than 8 mm).</summary>
    Small,

    /// <summary>20 to 34 mm (extra-axial: 8 to 14 mm thick).</summary>
    Medium,

    /// <summary>35 mm and more (extra-axial: 15 mm and thicker).</summary>
    Large,
}

/// <summary>A lesion that is really in the volume.</summary>
/// <param name="Fact">Kind, region and side.</param>
/// <param name="Size">Size class.</param>
/// <param name="LongSide">Planned longest side in millimetres; for extra-axial blood its greatest thickness.</param>
/// <param name="Density">Hounsfield units at its core.</param>
/// <param name="Multiple">Several foci rather than one.</param>
/// <param name="Oedema">A low-density rim surrounds it.</param>
/// <param name="VolumeMl">Visible volume in millilitres, counted from the mask.</param>
public sealed record PhantomLesion(
    LesionFact Fact, LesionSize Size, float LongSide, float Density, bool Multiple, bool Oedema, float VolumeMl);

/// <summary>Everything a phantom's text may state, taken from what was drawn.</summary>
/// <param name="Facts">The checkable facts; equals what <see cref="FindingFacts.Parse"/> reads from the findings.</param>
/// <param name="Lesions">In the order of <see cref="FindingFacts.Lesions"/>: largest visible volume first.</param>
/// <param name="ShiftMm">Displacement of the midline in millimetres, ≥ 0; 0 or at least 4.</param>
/// <param name="MassEffect">The main lesion presses on its surroundings.</param>
/// <param name="LayerOfSlice">Anatomical layer 0 to 7 of every slice (<see cref="Pcrl.Runtime.Studies.Anatomy"/>), −1 below and above the brain.</param>
/// <param name="KeyPhrases">Short canonical Chinese phrases, one a fact, such as <c>左侧 额叶 高密度 大</c>.</param>
public sealed record PhantomTruth(
    FindingFacts Facts, IReadOnlyList<PhantomLesion> Lesions, float ShiftMm, bool MassEffect,
    IReadOnlyList<int> LayerOfSlice, IReadOnlyList<string> KeyPhrases);

/// <summary>What a voxel of a phantom belongs to; the value stored in <see cref="PhantomMasks.Organs"/>.</summary>
public enum PhantomOrgan : byte
{
    /// <summary>Air around the head.</summary>
    Outside,

    /// <summary>Skin, fat and muscle.</summary>
    SoftTissue,

    /// <summary>Skull and vertebrae.</summary>
    Bone,

    /// <summary>Orbit with the eye.</summary>
    Orbit,

    /// <summary>Nose and throat.</summary>
    Airway,

    /// <summary>上颌窦</summary>
    MaxillarySinus,

    /// <summary>筛窦</summary>
    EthmoidSinus,

    /// <summary>蝶窦</summary>
    SphenoidSinus,

    /// <summary>Frontal sinus and mastoid cells.</summary>
    OtherSinus,

    /// <summary>脑沟 and the space around the brain.</summary>
    Sulcus,

    /// <summary>Basal cisterns.</summary>
    Cistern,

    /// <summary>额叶</summary>
    Frontal,

    /// <summary>颞叶</summary>
    Temporal,

    /// <summary>顶叶</summary>
    Parietal,

    /// <summary>枕叶</summary>
    Occipital,

    /// <summary>基底节区</summary>
    BasalGanglia,

    /// <summary>丘脑</summary>
    Thalamus,

    /// <summary>小脑</summary>
    Cerebellum,

    /// <summary>脑干</summary>
    BrainStem,

    /// <summary>侧脑室</summary>
    LateralVentricle,

    /// <summary>第三脑室</summary>
    ThirdVentricle,

    /// <summary>第四脑室</summary>
    FourthVentricle,

    /// <summary>大脑镰</summary>
    Falx,

    /// <summary>小脑幕</summary>
    Tentorium,
}

/// <summary>Ground-truth label maps, both [slices, size, size] row-major.</summary>
/// <param name="Organs"><see cref="PhantomOrgan"/> of every voxel, as it would be without lesions.</param>
/// <param name="Lesions">0, or 1 + the lesion's index in <see cref="PhantomTruth.Lesions"/>.</param>
public sealed record PhantomMasks(byte[] Organs, byte[] Lesions);

/// <summary>A synthetic head CT with everything known about it. It shows no real person.</summary>
/// <param name="Seed">The seed it was made from.</param>
/// <param name="Study">26 to 36 axial slices in Hounsfield units, caudal to cranial.</param>
/// <param name="Findings">Chinese findings text that states <paramref name="Truth"/> and nothing else.</param>
/// <param name="Truth">What was drawn.</param>
/// <param name="Masks">Where it was drawn.</param>
public sealed record Phantom(ulong Seed, Study Study, string Findings, PhantomTruth Truth, PhantomMasks Masks);
