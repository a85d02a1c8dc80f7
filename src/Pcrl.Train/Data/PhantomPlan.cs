using Pcrl.Train.Evaluation;

namespace Pcrl.Train.Data;

/// <summary>A lesion before it is drawn. Positions and lengths are canonical millimetres (see <see cref="PhantomAnatomy"/>).</summary>
internal sealed record PlannedLesion(LesionFact Fact, float LongSide, float Density, float Oedema, IReadOnlyList<LesionBlob> Blobs);

/// <summary>An ellipsoid with a rough outline, turned by an angle given as (cosine, sine) about the vertical axis.</summary>
internal readonly record struct LesionBlob(float X, float Y, float Z, float Rx, float Ry, float Rz, float Cos, float Sin);

/// <summary>Everything random about one phantom except its noise: drawn once, before any voxel.</summary>
internal sealed class PhantomPlan
{
    // The head in the scanner.
    public float FieldOfView, Spacing, FirstPosition;
    public int SliceCount;
    public float ScaleX, ScaleY, ScaleZ, OffsetX, OffsetY;
    public float Yaw, Pitch, Roll;
    public float Skew, Bend, SylvianLeft, SylvianRight;

    // Tissue.
    public float White, Grey, Csf, Bone, SkullThickness, Scalp, Headrest;
    public float SulcusWidth, SulcusDepth, Subarachnoid, Ventricles, VentricleLeft, VentricleRight;
    public float NoiseX, NoiseY, NoiseZ;
    public bool PinealCalcified, PlexusCalcified, PallidumCalcified;
    public float SinusDisease;
    public bool HasFrontalSinus;

    // The scanner.
    public float Noise, Streaks, Cupping, Offset;

    // The findings.
    public required float Difficulty;
    public bool VentriclesEnlarged, Atrophy, WhiteMatter;
    public Side? Sinusitis;
    public float ShiftMm, ShiftY, ShiftZ;
    public int ShiftDirection;
    public List<PlannedLesion> Lesions = [];

    public static PhantomPlan Draw(ulong seed, float difficulty)
    {
        var plan = new PhantomPlan { Difficulty = difficulty };
        plan.DrawFindings(new PhantomRandom(seed, 1));
        plan.DrawHead(new PhantomRandom(seed, 2));
        return plan;
    }

    private void DrawHead(PhantomRandom random)
    {
        float size = random.Range(0.93f, 1.03f);
        ScaleX = size * random.Range(0.93f, 1.03f);
        ScaleY = size * random.Range(0.93f, 1.02f);
        ScaleZ = size * random.Range(0.92f, 1.02f);
        FieldOfView = random.Range(218, 250);
        OffsetX = 5 * random.Bell();
        OffsetY = 4 * random.Bell();
        Yaw = 0.055f * random.Bell();
        Pitch = 0.06f + 0.07f * random.Bell();
        Roll = 0.025f * random.Bell();
        Skew = 0.02f * random.Bell();
        Bend = 0.0006f * random.Bell();
        (SylvianLeft, SylvianRight) = (2.5f * random.Bell(), 2.5f * random.Bell());
        float below = random.Range(66, 76), above = random.Range(78, 88);
        Spacing = random.Pick(4.5f, 5f, 5f, 5f, 5.5f);
        float height = (below + above) * ScaleZ;
        SliceCount = Math.Clamp((int)(height / Spacing) + 1, 26, 36);
        FirstPosition = -below * ScaleZ;

        White = 29 + 0.8f * random.Bell();
        Grey = White + random.Range(6.5f, 9f);
        Csf = random.Range(5, 9);
        Bone = random.Range(900, 1300);
        SkullThickness = random.Range(4.8f, 8.5f);
        Scalp = random.Range(3.5f, 7.5f);
        Headrest = random.Chance(0.6) ? random.Range(10, 26) : 0;
        SulcusDepth = random.Range(14, 22);
        NoiseX = random.Range(0, 64);
        NoiseY = random.Range(0, 64);
        NoiseZ = random.Range(0, 64);
        PinealCalcified = random.Chance(0.4);
        PlexusCalcified = random.Chance(0.3);
        PallidumCalcified = false;
        HasFrontalSinus = random.Chance(0.8);
        SinusDisease = random.Range(0.35f, 0.8f);
        VentricleLeft = random.Range(0.93f, 1.07f);
        VentricleRight = random.Range(0.93f, 1.07f);
        (SulcusWidth, Subarachnoid) = Atrophy
            ? (random.Range(1.2f, 1.9f) - 0.5f * (Difficulty - 0.5f), random.Range(2.2f, 3.8f) - (Difficulty - 0.5f))
            : (random.Range(0.3f, 0.8f), random.Range(0.5f, 1.2f));
        Ventricles = VentriclesEnlarged
            ? random.Range(1.55f, 2.2f) - 0.35f * (Difficulty - 0.5f)
            : random.Range(0.78f, 1.08f);
        Noise = random.Range(1.6f, 3.2f) * (0.6f + 0.8f * Difficulty);
        Streaks = random.Range(0.3f, 1f);
        Cupping = random.Range(0, 5);
        Offset = 1.5f * random.Bell();
    }

    private void DrawFindings(PhantomRandom random)
    {
        Atrophy = random.Chance(0.3);
        VentriclesEnlarged = random.Chance(Atrophy ? 0.5 : 0.25);
        WhiteMatter = random.Chance(Atrophy || VentriclesEnlarged ? 0.3 : 0.1);
        if (random.Chance(0.15)) Sinusitis = random.Pick(Side.Left, Side.Right, Side.Both);
        if (random.Chance(0.8)) PhantomLesions.Draw(this, random);
    }
}
