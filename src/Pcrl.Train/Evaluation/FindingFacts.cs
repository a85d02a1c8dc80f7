namespace Pcrl.Train.Evaluation;

/// <summary>What a lesion is, as far as an unenhanced CT and a findings text tell it.</summary>
public enum LesionKind
{
    /// <summary>Blood inside the brain (高密度影).</summary>
    Haemorrhage,

    /// <summary>Low density between that of brain and that of water: infarct or patchy ischaemia (低密度影).</summary>
    Infarct,

    /// <summary>Low density like cerebrospinal fluid: an old defect (软化灶).</summary>
    Softening,

    /// <summary>Calcium (钙化).</summary>
    Calcification,

    /// <summary>Crescent of blood under the dura (硬膜下, 新月形).</summary>
    Subdural,

    /// <summary>Lens of blood outside the dura (硬膜外, 梭形).</summary>
    Epidural,

    /// <summary>Blood in sulci and cisterns (蛛网膜下腔).</summary>
    Subarachnoid,

    /// <summary>Blood in the ventricles (脑室内).</summary>
    Intraventricular,
}

/// <summary>Where a lesion sits. Extra-axial and cisternal blood uses the region it lies beside, <see cref="Convexity"/> or <see cref="None"/>.</summary>
public enum BrainRegion
{
    /// <summary>No region of its own (subarachnoid and intraventricular blood).</summary>
    None,

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

    /// <summary>放射冠</summary>
    CoronaRadiata,

    /// <summary>半卵圆中心</summary>
    CentrumSemiovale,

    /// <summary>小脑半球</summary>
    Cerebellum,

    /// <summary>脑干</summary>
    BrainStem,

    /// <summary>额颞顶部: the whole convexity, where subdural blood spreads.</summary>
    Convexity,
}

/// <summary>The patient's side. The patient's left is on the right of the picture.</summary>
public enum Side
{
    /// <summary>On the midline, or no side is given.</summary>
    Midline,

    /// <summary>左侧</summary>
    Left,

    /// <summary>右侧</summary>
    Right,

    /// <summary>双侧</summary>
    Both,
}

/// <summary>Direction in which the midline structures are displaced.</summary>
public enum MidlineShift
{
    /// <summary>居中</summary>
    None,

    /// <summary>左移</summary>
    Left,

    /// <summary>右移</summary>
    Right,
}

/// <summary>One focal lesion as a report states it.</summary>
public readonly record struct LesionFact(LesionKind Kind, BrainRegion Region, Side Side);

/// <summary>
/// The checkable facts of a findings text. The first lesion is the <em>main</em> one: phantoms mention lesions in falling order of visible
/// volume, and readers name what matters first. Two values are equal when every fact, and the order of the lesions, agrees.
/// </summary>
/// <param name="Lesions">Focal lesions in the order of mention; empty when there are none.</param>
/// <param name="VentriclesEnlarged">脑室扩大</param>
/// <param name="Atrophy">脑沟、脑裂增宽</param>
/// <param name="Midline">Displacement of the midline.</param>
/// <param name="WhiteMatter">Periventricular white-matter hypodensity (脑室旁白质密度减低); not counted as a focal lesion.</param>
/// <param name="Sinusitis">Side of thickened mucosa in the paranasal sinuses, null when they are clear or not mentioned.</param>
public sealed partial record FindingFacts(
    IReadOnlyList<LesionFact> Lesions, bool VentriclesEnlarged, bool Atrophy, MidlineShift Midline, bool WhiteMatter, Side? Sinusitis)
{
    /// <summary>The main lesion, null when no lesion is stated.</summary>
    public LesionFact? Main => Lesions.Count > 0 ? Lesions[0] : null;

    /// <inheritdoc/>
    public bool Equals(FindingFacts? other) =>
        other is not null && VentriclesEnlarged == other.VentriclesEnlarged && Atrophy == other.Atrophy && Midline == other.Midline
        && WhiteMatter == other.WhiteMatter && Sinusitis == other.Sinusitis && Lesions.SequenceEqual(other.Lesions);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Lesions.Count, Main, VentriclesEnlarged, Atrophy, Midline, WhiteMatter, Sinusitis);

    /// <inheritdoc/>
    public override string ToString() =>
        $"[{string.Join(", ", Lesions.Select(l => $"{l.Side} {l.Region} {l.Kind}"))}]"
        + (VentriclesEnlarged ? " ventricles" : "") + (Atrophy ? " atrophy" : "") + (WhiteMatter ? " white-matter" : "")
        + (Midline == MidlineShift.None ? "" : $" shift-{Midline}") + (Sinusitis is { } s ? $" sinusitis-{s}" : "");
}
