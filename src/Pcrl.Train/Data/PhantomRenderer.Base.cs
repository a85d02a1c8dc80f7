using System.Runtime.CompilerServices;
using Pcrl.Train.Evaluation;
using static Pcrl.Train.Data.PhantomAnatomy;

namespace Pcrl.Train.Data;

/// <summary>The large surfaces: skin, skull, brain surface with its folds, falx, tentorium.</summary>
internal sealed partial class PhantomRenderer
{
    private void DrawBase(float z, Span<float> hu, Span<byte> organs, Span<byte> lesions)
    {
        PhantomPlan p = _plan;
        float stepX = _toCanonical[0] * _pixel, stepY = _toCanonical[3] * _pixel, stepZ = _toCanonical[6] * _pixel;
        lesions.Clear();
        for (int row = 0; row < _size; row++)
        {
            float px = PhysicalX(0), py = PhysicalY(row);
            float x = ToCanonical(0, px, py, z), y = ToCanonical(1, px, py, z), zc = ToCanonical(2, px, py, z);
            int i = row * _size;
            for (int column = 0; column < _size; column++, i++, x += stepX, y += stepY, zc += stepZ)
            {
                float ys = y - CentreY, zs = zc - CentreZ, xs = x + p.Skew * ys;
                float v = ys / 87, ax = MathF.Abs(xs);
                float u = xs / (68 * (1 - 0.11f * v - 0.06f * v * v)), w = zs / (zs > 0 ? 73f : 74f);
                float u2 = u * u, v2 = v * v, w2 = w * w, q2 = u2 + v2 + w2;
                _inside[i] = _tissue[i] = 0;
                _x[i] = x; _y[i] = y; _z[i] = zc;
                if (q2 > 2.2f || zc > 0 && q2 > 1.6f)
                {
                    hu[i] = -1000;
                    organs[i] = 0;
                    continue;
                }
                float big = 0.58f * q2 + 0.42f * MathF.Sqrt(u2 * u2 + v2 * v2 + w2 * w2);
                float ratio = MathF.Sqrt(big) + 1e-4f;
                float length = MathF.Sqrt(xs * xs + ys * ys + zs * zs);
                float depth = length / ratio - length;
                float blur = _half + _thick * MathF.Abs(zs) / (length + 1) * 0.8f;

                // Skin: the vault's shell above, an upright egg for face and neck below.
                float bone = p.SkullThickness + 1.2f * v2 + 2.5f * w2 * (zs > 0 ? 1 : 0);
                float skin = depth + bone + p.Scalp;
                if (zc < -8)
                {
                    float a = 71 * (1 - 0.10f * v - 0.10f * v * v) + 0.12f * (zc + 30), back = 92 - 0.55f * Max(0, -52 - zc);
                    float ev = ys / (ys > 0 ? 90 : back + 4), eu = xs / a;
                    float e = MathF.Sqrt(eu * eu + ev * ev) + 1e-4f, flat = MathF.Sqrt(xs * xs + ys * ys);
                    float face = flat / e - flat;
                    skin += (face - skin) * Clamp01((-8 - zc) / 26);
                }
                float head = Cover(skin, blur);
                if (head <= 0)
                {
                    hu[i] = -1000;
                    organs[i] = 0;
                    continue;
                }

                float cavity = depth;
                if (zc < -6)
                {
                    var (floor, normal) = Floor(ax, y);
                    float above = (zc - floor) * normal;
                    if (above < cavity)
                    {
                        cavity = above;
                        bone = Min(bone, 3.6f);
                        blur = _half + _thick * normal;
                    }
                }
                float outer = Cover(cavity + bone, blur), inside = Cover(cavity, blur);
                float value = -1000 + head * (SoftTissue(skin, x, y, zc) + 1000);
                byte organ = (byte)(head >= 0.5f ? PhantomOrgan.SoftTissue : PhantomOrgan.Outside);
                if (outer > 0)
                {
                    // Two tables with spongy bone between them.
                    float middle = (cavity + bone * 0.5f) / (bone * 0.33f);
                    float hard = p.Bone * (middle * middle < 1 ? 0.62f : 1);
                    value += outer * (hard - value);
                    if (outer >= 0.5f) organ = (byte)PhantomOrgan.Bone;
                }
                if (inside > 0)
                {
                    _inside[i] = inside;
                    float brain = Brain(i, xs, y, zc, u, v, w, ratio, depth, cavity, blur, lesions, inside, out byte place);
                    value += inside * (brain + p.Cupping * (1 - Clamp01(depth * 0.06f)) - value);
                    if (inside >= 0.5f) organ = place;
                    _tissue[i] = inside;
                }
                hu[i] = value;
                organs[i] = organ;
            }
        }
    }

    private float SoftTissue(float skin, float x, float y, float z)
    {
        if (skin < 2) return 15;
        float n = PhantomNoise.At(_folds, x * 0.21f + _plan.NoiseY, y * 0.21f, z * 0.12f);
        bool low = z < -25 || MathF.Abs(x) > 48 && y > -20 && y < 40 && z < 12;
        return low ? n > 0.55f ? -80 : 48 : -75 + 30 * n;
    }

    /// <summary>Brain and the fluid around it, before ventricles and nuclei are painted.</summary>
    private float Brain(int i, float x, float y, float z, float u, float v, float w, float ratio, float depth, float cavity, float blur,
        Span<byte> lesions, float inside, out byte organ)
    {
        PhantomPlan p = _plan;
        float blood = 0;
        float shell = 75 / (0.8f * ratio + 0.2f), qx = u * shell, qy = v * shell, qz = w * shell;
        if (p.ShiftMm > 0)
        {
            float room = Clamp01(1 - ratio * ratio) * 1.25f, ey = (y - p.ShiftY) / 60, ez = (z - p.ShiftZ) / 34;
            x -= p.ShiftDirection * p.ShiftMm * Min(1, room) / (1 + ey * ey + ez * ez * ez * ez);
        }
        x += p.Bend * (y + 20) * (y + 20) * 0.3f;
        _x[i] = x;
        float ax = MathF.Abs(x);
        if (_extra is not null && depth < 45)
        {
            float k = 75 / ratio, dx = u * k - _extraX, dy = (v * k - _extraY) * 0.85f, dz = w * k - _extraZ;
            float s = (dx * dx + dy * dy + dz * dz) / (_extraReach * _extraReach);
            if (s < 1)
            {
                float profile = _extra.Fact.Kind == LesionKind.Epidural ? 1 - s : 1 - s * s;
                float sheet = _extraThick * profile * Clamp01((_extraSide * x - 3) / 12);
                float cover = Cover(sheet - depth, blur);
                if (cover >= 0.5f && inside >= 0.5f && sheet > 1) lesions[i] = _extraMark;
                blood = cover * Clamp01(sheet);
                depth -= sheet;
                cavity -= sheet;
            }
        }

        float gap = p.Subarachnoid * (1 + 0.6f * Clamp01(v)) , value;
        float tent = z - Tentorium(ax, y), petrous = Petrous(ax);
        if (tent < 0 && y < petrous + 4)
        {
            value = Hindbrain(ax, y, z, x, cavity - gap * 0.7f, tent, petrous, blur, out organ);
        }
        else
        {
            value = Cerebrum(x, ax, y, z, qx, qy, qz, cavity, depth, gap, blur, i, lesions, inside, out organ);
            if (tent < 3 && y < petrous)
            {
                float dura = Sheet((tent - 0.5f) * 0.87f, 0.7f, _half + 0.3f * _thick);
                value += dura * (48 - value);
                if (dura > 0.5f) organ = (byte)PhantomOrgan.Tentorium;
            }
        }
        if (blood > 0) value += blood * (_extra!.Density - value);
        return value;
    }

    private float Hindbrain(float ax, float y, float z, float x, float surface, float tent, float petrous, float blur, out byte organ)
    {
        PhantomPlan p = _plan;
        float front = -46 + (petrous - 7 + 46) * Smooth((ax - 9) / 14);
        float inner = Min(surface, Min(-tent * 0.87f - 0.8f, (front - y) * 0.85f));
        float cleft = Max((ax - 9) * 0.7f, Max((z + 48) * 0.6f, -72 - y + ax * 0.5f > 0 ? -1 : 4));
        inner = Min(inner, cleft + 3);
        float cover = Cover(inner, blur);
        float fold = PhantomNoise.At(_folds, x * 0.12f + p.NoiseX, y * 0.75f + 0.02f * x * x, z * 0.7f + p.NoiseZ);
        float tissue = p.Grey - 2.5f - 2.5f * Smooth((inner - 12) / 10) + 1.2f * fold * (1 - Smooth((inner - 10) / 8));
        if (fold > 1.1f && inner < 12) tissue -= (p.Atrophy ? 9 : 3) * Min(1, fold - 1.1f);
        float csf = p.Csf;
        organ = (byte)(cover >= 0.5f ? PhantomOrgan.Cerebellum : PhantomOrgan.Cistern);
        float dura = Sheet((tent + 0.3f) * 0.87f, 0.6f, _half + 0.3f * _thick);
        float value = csf + cover * (tissue - csf);
        if (ax > 14 || y < -48) value += dura * (46 - value);
        return value;
    }

    private float Cerebrum(float x, float ax, float y, float z, float qx, float qy, float qz, float cavity, float depth, float gap, float blur,
        int i, Span<byte> lesions, float inside, out byte organ)
    {
        PhantomPlan p = _plan;
        organ = (byte)Lobe(ax, y, z);
        float csf = p.Csf, narrow = 1;
        if (p.ShiftMm > 0 && (x > 0) == p.ShiftDirection < 0) narrow = 0.35f;
        float bloody = 0;
        if (_subarachnoid is not null)
        {
            bloody = SubarachnoidShare(x, y, z);
            csf += bloody * (_subarachnoid.Density - csf);
            gap += 0.6f * bloody;
        }

        float surface = cavity - gap;
        // The longitudinal fissure with the falx, outside the outline of the corpus callosum.
        float cy = (y + 6) / 43, cz = (z - 4) / 25, callosum = cy * cy + cz * cz;
        float falx = 0;
        if (callosum > 1 && (y > 8 || z > 5 || y < -44))
        {
            float wave = 0.9f * PhantomNoise.At(_folds, p.NoiseZ, y * 0.16f, z * 0.1f);
            float dm = MathF.Abs(x + wave * 0.5f);
            surface = Min(surface, dm - 0.5f - 0.55f * gap);
            float reach = y < -30 ? 1 : Clamp01((42 - depth) / 12) * (y > 25 ? 0.85f : 1);
            falx = Sheet(dm, 0.75f, _half) * Min(1, (callosum - 1) * 2) * reach;
        }

        float dGrey = surface;
        float cover = Cover(surface, _half + 0.3f * (blur - _half));
        float sulcus = 0;
        if (surface < 27)
        {
            float side = x > 0 ? 0 : 29;
            float n = PhantomNoise.At(_folds, (qx + 1.5f * x * 0) * 0.36f + p.NoiseX + side, qy * 0.36f + p.NoiseY, qz * 0.30f + p.NoiseZ);
            float distance = MathF.Abs(n) * 4.6f;
            float deep = p.SulcusDepth * (0.75f + 0.25f * Clamp01(n * 2 + 0.5f));
            float taper = 1 - surface / deep;
            float half = (p.SulcusWidth + 0.7f * bloody) * narrow * (0.35f + 0.65f * taper);
            if (taper > 0)
            {
                sulcus = Sheet(distance, half, _half + 0.25f);
                dGrey = Min(dGrey, distance - half);
            }
            else
            {
                float over = surface - deep;
                dGrey = Min(dGrey, MathF.Sqrt(distance * distance + over * over));
            }
        }

        // Sylvian fissure and insula.
        if (ax > 30 && y > -46 && y < 26 && z > -26 && z < 30)
        {
            float open = (0.5f + 0.75f * p.SulcusWidth + 0.5f * bloody) * narrow;
            float sheet = MathF.Abs(z - Sylvian(y)) * 0.94f, lateral = ax - 38;
            if (lateral > -2)
            {
                float side = Sheet(sheet, open, _half + 0.35f * _thick) * Clamp01((lateral + 2) / 3) * Clamp01((26 - y) / 8) * Clamp01((y + 46) / 10);
                sulcus = Max(sulcus, side);
                dGrey = Min(dGrey, Max(sheet - open, -lateral));
            }
            float insula = MathF.Abs(ax - 39.5f + 0.004f * (y + 2) * (y + 2)), height = Max(MathF.Abs(z - 4) - 14, MathF.Abs(y + 1) - 19);
            if (height < 4)
            {
                float thin = open * 0.9f * Clamp01(1 - height / 4);
                sulcus = Max(sulcus, Sheet(insula, thin, _half));
                dGrey = Min(dGrey, Max(insula - thin, height));
            }
        }

        float grey = Cover(3.1f - dGrey, _half + 0.4f);
        float value = p.White + grey * (p.Grey - p.White);
        float fluid = 1 - cover * (1 - sulcus);
        value += fluid * (csf - value);
        if (bloody * fluid * inside > 0.4f) lesions[i] = _subarachnoidMark;
        if (fluid > 0.5f) organ = (byte)PhantomOrgan.Sulcus;
        if (falx > 0)
        {
            value += falx * (52 - value);
            if (falx > 0.45f) organ = (byte)PhantomOrgan.Falx;
        }
        return value;
    }

    /// <summary>How bloody the fluid is at a point, 0 to 0.9: most around the base and the Sylvian fissure, none near the vertex.</summary>
    private float SubarachnoidShare(float x, float y, float z)
    {
        Side side = _subarachnoid!.Fact.Side;
        float weight = side == Side.Both ? 1 : Clamp01(((side == Side.Left ? x : -x) - 2) / 8);
        return 0.9f * weight * (1 - Smooth((z - 34) / 18)) * (1 - Smooth((-38 - y) / 26));
    }
}
