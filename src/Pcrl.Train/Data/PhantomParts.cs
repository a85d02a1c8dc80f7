using Pcrl.Train.Evaluation;

namespace Pcrl.Train.Data;

/// <summary>Where a part may be painted.</summary>
internal enum PartZone : byte { Everywhere, InsideSkull, OutsideSkull }

/// <summary>
/// A rounded rod that tapers from A to B, flattened by a factor per axis: the one shape that every small structure is made of
/// (an ellipsoid is a rod of no length). Canonical millimetres.
/// </summary>
internal readonly record struct Part(
    float Ax, float Ay, float Az, float Bx, float By, float Bz, float Ra, float Rb,
    float Sx, float Sy, float Sz, float Hu, PhantomOrgan Organ, PartZone Zone, float Soft = 0);

/// <summary>The small structures of one head, in painting order.</summary>
internal static class PhantomParts
{
    public static List<Part> Make(PhantomPlan plan, ulong seed)
    {
        var random = new PhantomRandom(seed, 3);
        var parts = new List<Part>(200);
        Face(parts, plan, random);
        SkullBase(parts, plan, random);
        BrainStem(parts, plan, random);
        if (plan.WhiteMatter) Ventricles(parts, plan, halo: 6.5f - 2 * (plan.Difficulty - 0.5f));
        DeepGrey(parts, plan);
        Ventricles(parts, plan, halo: 0);
        Calcifications(parts, plan);
        return parts;
    }

    private static void Ball(List<Part> parts, float x, float y, float z, float rx, float ry, float rz, float hu, PhantomOrgan organ, PartZone zone, float soft = 0) =>
        parts.Add(new Part(x, y, z, x, y, z, rx, rx, 1, rx / ry, rx / rz, hu, organ, zone, soft));

    private static void Rod(List<Part> parts, float ax, float ay, float az, float bx, float by, float bz, float ra, float rb, float hu,
        PhantomOrgan organ, PartZone zone, float sx = 1, float sy = 1, float sz = 1) =>
        parts.Add(new Part(ax, ay, az, bx, by, bz, ra, rb, sx, sy, sz, hu, organ, zone));

    private static void Face(List<Part> parts, PhantomPlan plan, PhantomRandom random)
    {
        const PartZone Out = PartZone.OutsideSkull;
        float bone = plan.Bone, muscle = 52, air = -1000, fat = -85, mucosa = 35;
        // Nose, ears, cheeks.
        Rod(parts, 0, 68, -66, 0, 72, -34, 16, 8, 30, PhantomOrgan.SoftTissue, Out);
        for (int s = -1; s <= 1; s += 2)
        {
            Ball(parts, s * 74, -26, -36, 4, 12, 20, 20, PhantomOrgan.SoftTissue, Out);
            // Zygomatic arch, mandible, pterygoid muscles.
            Rod(parts, s * 60, 40, -52, s * 64, 5, -50, 4, 2.5f, bone, PhantomOrgan.Bone, Out);
            Rod(parts, s * 60, 40, -52, s * 42, 58, -46, 4, 5, bone, PhantomOrgan.Bone, Out);
            Rod(parts, s * 52, -8, -52, s * 46, 2, -92, 5, 7, bone, PhantomOrgan.Bone, Out, sx: 1.6f);
            Rod(parts, s * 30, 8, -56, s * 36, 2, -85, 9, 10, muscle, PhantomOrgan.SoftTissue, Out);
            Ball(parts, s * 56, 16, -60, 6, 14, 22, muscle, PhantomOrgan.SoftTissue, Out);
            // Orbit: bone cone, fat, eye, optic nerve, muscles.
            Rod(parts, s * 32, 58, -36, s * 13, 16, -33, 20.5f, 6, bone, PhantomOrgan.Bone, Out);
            Rod(parts, s * 32, 62, -36, s * 14, 18, -33, 18, 3.5f, fat, PhantomOrgan.Orbit, Out);
            Rod(parts, s * 36, 74, -36, s * 33, 62, -36, 17, 16, fat, PhantomOrgan.Orbit, Out);
            Rod(parts, s * 43, 52, -36, s * 17, 20, -33, 2.5f, 1.6f, muscle, PhantomOrgan.Orbit, Out, sz: 0.5f);
            Rod(parts, s * 21, 54, -36, s * 14, 20, -33, 2.2f, 1.6f, muscle, PhantomOrgan.Orbit, Out, sz: 0.5f);
            Rod(parts, s * 31, 52, -36, s * 14, 18, -32, 2, 2, 35, PhantomOrgan.Orbit, Out);
            Ball(parts, s * 32, 64, -36, 12.3f, 12.3f, 12.3f, 45, PhantomOrgan.Orbit, Out);
            Ball(parts, s * 32, 64, -36, 10.8f, 10.8f, 10.8f, 12, PhantomOrgan.Orbit, Out);
            Ball(parts, s * 32, 72, -36, 4.6f, 2.2f, 4.6f, 75, PhantomOrgan.Orbit, Out);
            // Maxillary sinus.
            Side side = s > 0 ? Side.Left : Side.Right;
            float f = random.Range(0.88f, 1.08f);
            Rod(parts, s * 25, 57 * f, -66, s * 33, 38, -66, 13.5f * f, 14 * f, bone, PhantomOrgan.Bone, Out, sz: 0.85f);
            bool ill = plan.Sinusitis == side || plan.Sinusitis == Side.Both;
            Rod(parts, s * 25, 57 * f, -66, s * 33, 38, -66, 12 * f, 12.5f * f, ill ? mucosa : air, PhantomOrgan.MaxillarySinus, Out, sz: 0.85f);
            if (ill)
            {
                float free = 1 - plan.SinusDisease;
                Ball(parts, s * 29, 46 + 8 * plan.SinusDisease, -64, 12 * free, 17 * free, 13 * free, air, PhantomOrgan.MaxillarySinus, Out);
            }
        }
        // Hard palate, nasal cavity, throat.
        Ball(parts, 0, 50, -86, 28, 26, 8, bone, PhantomOrgan.Bone, Out);
        Ball(parts, 0, 46, -92, 22, 22, 10, 50, PhantomOrgan.SoftTissue, Out);
        Rod(parts, 0, 66, -66, 0, 22, -66, 8, 9, air, PhantomOrgan.Airway, Out, sz: 0.55f);
        for (int s = -1; s <= 1; s += 2)
        {
            Rod(parts, s * 7, 60, -68, s * 7, 26, -68, 2.6f, 3.2f, 45, PhantomOrgan.Airway, Out, sz: 0.5f);
            Rod(parts, s * 7, 62, -52, s * 6, 30, -52, 2, 2.6f, 60, PhantomOrgan.Airway, Out);
        }
        Rod(parts, 0, 68, -68, 0, 20, -68, 1, 1, 500, PhantomOrgan.Bone, Out, sz: 0.06f);
        Rod(parts, 0, 12, -58, 0, 4, -100, 8, 9, air, PhantomOrgan.Airway, Out, sy: 1.3f);
        // Ethmoid cells.
        Ball(parts, 0, 46, -38, 13.5f, 23, 13, bone * 0.5f, PhantomOrgan.Bone, Out);
        for (int s = -1; s <= 1; s += 2)
            for (int i = 0; i < 4; i++)
                for (int k = 0; k < 3; k++)
                    Ball(parts, s * (6.5f + 0.5f * random.Bell()), 31 + 10 * i + random.Bell(), -46 + 8 * k + random.Bell(),
                        4.6f, 4.4f, 4.2f, air, PhantomOrgan.EthmoidSinus, Out);
        // Sphenoid sinus.
        Ball(parts, 0, 10, -40, 19, 15, 15, bone, PhantomOrgan.Bone, Out);
        for (int s = -1; s <= 1; s += 2)
            Ball(parts, s * 7.5f, 12, -39, 7 * random.Range(0.85f, 1.1f), 10, 9, air, PhantomOrgan.SphenoidSinus, Out);
        // Atlas, axis and cord.
        float cy = -38;
        Ball(parts, 0, cy, -84, 26, 24, 15, muscle, PhantomOrgan.SoftTissue, Out);
        Ball(parts, 0, cy, -84, 23, 19, 14, bone, PhantomOrgan.Bone, Out);
        Rod(parts, -36, cy + 4, -82, 36, cy + 4, -82, 5, 5, bone, PhantomOrgan.Bone, Out, sz: 0.7f);
        Ball(parts, 0, cy + 17, -82, 5, 5, 14, bone, PhantomOrgan.Bone, Out);
    }

    private static void SkullBase(List<Part> parts, PhantomPlan plan, PhantomRandom random)
    {
        const PartZone All = PartZone.Everywhere;
        float bone = plan.Bone;
        for (int s = -1; s <= 1; s += 2)
        {
            // Petrous pyramid, mastoid, sphenoid wing, clinoid.
            Rod(parts, s * 56, -34, -40, s * 16, -12, -37, 12, 5, bone, PhantomOrgan.Bone, All);
            Ball(parts, s * 58, -34, -50, 11, 17, 17, bone * 0.8f, PhantomOrgan.Bone, All);
            Rod(parts, s * 58, 27, -16, s * 14, 12, -22, 4.2f, 2.6f, bone, PhantomOrgan.Bone, All);
            Ball(parts, s * 10, 9, -20, 2.4f, 5, 2.4f, bone, PhantomOrgan.Bone, All);
            for (int i = 0; i < 14; i++)
            {
                float r = random.Range(1.6f, 3.4f);
                Ball(parts, s * random.Range(50, 64), random.Range(-46, -24), random.Range(-62, -38), r, r, r, -900, PhantomOrgan.OtherSinus, All);
            }
            // Ear canal and middle ear.
            Rod(parts, s * 72, -22, -44, s * 46, -21, -42, 3.2f, 3, -950, PhantomOrgan.OtherSinus, All);
        }
        Rod(parts, 0, -9, -24, 0, -26, -60, 3.5f, 3.5f, bone, PhantomOrgan.Bone, All, sx: 0.28f);
        Rod(parts, -7, -6, -20, 7, -6, -20, 2, 2, bone, PhantomOrgan.Bone, All);
        // Crista galli, internal occipital protuberance.
        Rod(parts, 0, 60, -28, 0, 66, -12, 2.4f, 1.5f, bone, PhantomOrgan.Bone, All);
        if (plan.HasFrontalSinus)
        {
            float w = random.Range(8, 17), h = random.Range(10, 20);
            for (int s = -1; s <= 1; s += 2)
            {
                Ball(parts, s * w * 0.75f, 72, -14, w * 0.95f, 7.5f, h, bone, PhantomOrgan.Bone, PartZone.OutsideSkull);
                Ball(parts, s * w * 0.75f, 73, -14, w * 0.85f, 4.5f, h - 2, -1000, PhantomOrgan.OtherSinus, PartZone.OutsideSkull);
            }
        }
    }

    private static void BrainStem(List<Part> parts, PhantomPlan plan, PhantomRandom random)
    {
        const PartZone In = PartZone.InsideSkull;
        float stem = plan.Grey - 4, csf = plan.Csf, cistern = 0.8f + 0.13f * plan.Subarachnoid;
        // Suprasellar star and the ring around the midbrain.
        Rod(parts, 0, 8, -20, 0, -6, -16, 8 * cistern, 8 * cistern, csf, PhantomOrgan.Cistern, In, sz: 1.1f);
        Rod(parts, 0, 8, -19, 0, 22, -18, 4 * cistern, 1.5f, csf, PhantomOrgan.Cistern, In);
        for (int s = -1; s <= 1; s += 2)
        {
            Rod(parts, s * 4, 7, -18, s * 30, 12, -14, 4 * cistern, 1.6f * cistern, csf, PhantomOrgan.Cistern, In);
            Rod(parts, s * 5, -4, -17, s * 17, -14, -14, 4 * cistern, 2.4f * cistern, csf, PhantomOrgan.Cistern, In);
            Rod(parts, s * 17, -14, -13, s * 19, -30, -9, 2.4f * cistern, 2.4f * cistern, csf, PhantomOrgan.Cistern, In, sz: 0.5f);
            Rod(parts, s * 19, -30, -8, s * 5, -42, -5, 2.6f * cistern, 2.6f * cistern, csf, PhantomOrgan.Cistern, In, sz: 0.5f);
        }
        Ball(parts, 0, -42, -3, 7 * cistern, 3.5f * cistern, 6, csf, PhantomOrgan.Cistern, In);
        // Midbrain, pons, medulla, cerebellar peduncles.
        for (int s = -1; s <= 1; s += 2)
        {
            Rod(parts, s * 6, -26, -20, s * 8, -18, -6, 8, 6.5f, stem, PhantomOrgan.BrainStem, In);
            Rod(parts, s * 8, -30, -34, s * 22, -42, -36, 9, 10, stem, PhantomOrgan.BrainStem, In);
        }
        Rod(parts, 0, -29, -18, 0, -28, -4, 13, 12, stem, PhantomOrgan.BrainStem, In, sy: 1.15f);
        Rod(parts, 0, -26, -38, 0, -25, -28, 16, 15, stem, PhantomOrgan.BrainStem, In, sy: 1.25f, sz: 1.4f);
        Rod(parts, 0, -28, -44, 0, -38, -66, 10, 7.5f, stem, PhantomOrgan.BrainStem, In);
        Rod(parts, 0, -38, -66, 0, -37, -120, 7, 6, stem, PhantomOrgan.BrainStem, In);
    }

    private static void DeepGrey(List<Part> parts, PhantomPlan plan)
    {
        const PartZone In = PartZone.InsideSkull;
        float grey = plan.Grey + 0.5f, capsule = plan.White, v = plan.Ventricles;
        for (int s = -1; s <= 1; s += 2)
        {
            float out_ = 2.5f * (v - 1);
            // Caudate head and body, lentiform nucleus (a wedge, tip inwards), thalamus.
            Rod(parts, s * (14 + out_), 18, 4, s * (14 + out_), 6, 14, 6.5f, 5.5f, grey, PhantomOrgan.BasalGanglia, In);
            Rod(parts, s * (15 + out_), 6, 15, s * (20 + out_), -18, 22, 4.5f, 2.5f, grey, PhantomOrgan.BasalGanglia, In);
            Rod(parts, s * 29, 10, 2, s * 30, -12, 3, 5.5f, 4.5f, grey + 1, PhantomOrgan.BasalGanglia, In, sx: 1.25f, sz: 0.55f);
            Rod(parts, s * 22, 4, 1, s * 23, -7, 1, 5, 4, grey, PhantomOrgan.BasalGanglia, In, sz: 0.7f);
            Ball(parts, s * (11 + out_ * 0.6f), -17, 7, 8.5f, 13.5f, 10, grey, PhantomOrgan.Thalamus, In);
            Rod(parts, s * (18 + out_), 14, 6, s * 21, -2, 6, 1.6f, 1.8f, capsule, PhantomOrgan.Frontal, In, sz: 0.25f);
            Rod(parts, s * 20, -2, 6, s * 25, -22, 6, 2, 2.2f, capsule, PhantomOrgan.Frontal, In, sz: 0.25f);
        }
    }

    private static void Ventricles(List<Part> parts, PhantomPlan plan, float halo)
    {
        const PartZone In = PartZone.InsideSkull;
        float v = plan.Ventricles, hu = halo > 0 ? plan.White - 8.5f + 3 * (plan.Difficulty - 0.5f) : plan.Csf - 1, soft = halo * 0.7f;
        PhantomOrgan organ = halo > 0 ? PhantomOrgan.Frontal : PhantomOrgan.LateralVentricle;
        for (int s = -1; s <= 1; s += 2)
        {
            float f = v * (s > 0 ? plan.VentricleLeft : plan.VentricleRight), gap = 1.2f;
            float x0 = gap + 2.6f * f;
            void Tube(float ax, float ay, float az, float bx, float by, float bz, float ra, float rb, float sx = 1, float sz = 1) =>
                parts.Add(new Part(s * ax, ay, az, s * bx, by, bz, ra * f + halo, rb * f + halo, halo > 0 ? 1 : sx, 1, sz, hu, organ, In, soft));
            // Frontal horn, body, atrium, occipital and temporal horns.
            Tube(x0 + 7 + 2 * f, 27 + 4 * f, 4, x0 + 2, 14, 12, 2.4f, 3.6f, 1, 0.8f);
            Tube(x0 + 7, 26, 12, x0 + 2.5f, 8, 18, 2.8f, 3.8f, 1, 0.75f);
            Tube(x0 + 2, 14, 12, x0 + 2.5f, -2, 21, 3.6f, 3.8f);
            Tube(x0 + 2.5f, 10, 21, x0 + 6, -18, 25, 3.4f, 4.0f, 1, 0.6f);
            Tube(x0 + 6, -18, 25, 22 + 2 * f, -38, 18, 4.0f, 5.2f, 1, 0.7f);
            Tube(22 + 2 * f, -38, 18, 26 + f, -44, 6, 5.4f, 5.2f, 1.15f);
            Tube(25 + f, -44, 9, 25 + f, -58 - 8 * f, 6, 5, 1.8f, 1.2f);
            if (halo > 0) continue;
            Tube(27 + f, -40, 2, 33, -22, -13, 3.2f, 1.9f);
            Tube(33, -22, -13, 31, -7, -19, 1.9f, 1.5f);
            Rod(parts, s * 2.5f, 4, 8, s * 2.2f, -2, 6, 1.2f, 1.2f, hu, organ, In);
        }
        if (halo > 0) return;
        float third = 1.4f + 1.5f * (v - 0.7f);
        parts.Add(new Part(0, 0, -6, 0, -26, 3, third, third, 1, 0.8f, 0.28f, hu, PhantomOrgan.ThirdVentricle, In));
        float fourth = 0.75f + 0.25f * v;
        Ball(parts, 0, -42, -33, 6.5f * fourth, 4.6f * fourth, 10, hu, PhantomOrgan.FourthVentricle, In);
        Rod(parts, 0, -40, -24, 0, -36, -10, 2, 1, hu, PhantomOrgan.FourthVentricle, In);
    }

    private static void Calcifications(List<Part> parts, PhantomPlan plan)
    {
        const PartZone In = PartZone.InsideSkull;
        if (plan.PinealCalcified) Ball(parts, 0.5f, -33, 2, 2, 2.4f, 2, 220, PhantomOrgan.ThirdVentricle, In);
        if (plan.PlexusCalcified)
            for (int s = -1; s <= 1; s += 2)
                Ball(parts, s * 25, -43, 9, 2.6f, 3, 3, 180, PhantomOrgan.LateralVentricle, In);
    }
}
