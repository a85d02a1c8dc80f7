using System.Numerics;
using Pcrl.Train.Evaluation;
using static Pcrl.Train.Data.PhantomAnatomy;

namespace Pcrl.Train.Data;

/// <summary>The large surfaces: skin, skull, brain surface with its folds, falx, tentorium.</summary>
internal sealed partial class PhantomRenderer
{
    private void DrawBase(float z, Span<float> hu, Span<byte> organs, Span<byte> lesions)
    {
        PhantomPlan p = _plan;
        lesions.Clear();
        BendGrid(z);
        // No head above or below these rows.
        int top = RowOf(98), bottom = RowOf(-124);
        for (int row = 0; row < _size; row++)
        {
            int i = row * _size;
            if (row < top || row > bottom)
            {
                hu.Slice(i, _size).Fill(-1000);
                organs.Slice(i, _size).Clear();
                _inside.AsSpan(i, _size).Clear();
                _tissue.AsSpan(i, _size).Clear();
                _x.AsSpan(i, _size).Fill(1000);
                continue;
            }
            RowGeometry(row, z);
            for (int column = 0; column < _size; column++, i++)
            {
                float q2 = _rowSquare[column], zc = _z[i];
                _inside[i] = _tissue[i] = 0;
                if (q2 > 2.2f || zc > 0 && q2 > 1.6f)
                {
                    hu[i] = -1000;
                    organs[i] = 0;
                    continue;
                }
                float x = _x[i], y = _y[i], ys = y - CentreY, zs = zc - CentreZ, xs = x + p.Skew * ys, ax = MathF.Abs(xs);
                float u = _rowU[column], v = ys * (1 / 87f), w = zs * (zs > 0 ? 1 / 73f : 1 / 74f), v2 = v * v, w2 = w * w;
                float ratio = _rowRatio[column], length = _rowLength[column], depth = _rowDepth[column];
                float blur = _half + _thick * MathF.Abs(zs) / (length + 1) * 0.8f;
                float shell = p.SkullThickness * (0.62f + 0.5f * v2 + 0.55f * w2), bone = shell, cavity = depth;
                if (zc < -6 && depth > -bone - 4)
                {
                    var (floor, normal) = Floor(ax, y);
                    float above = (zc - floor) * normal;
                    if (above < cavity)
                    {
                        cavity = above;
                        bone = Min(bone, 2.8f);
                        blur = _half + _thick * normal;
                    }
                }

                if (zc < -50 && Canal(ax, y, zc) is var canal && canal > cavity)
                {
                    cavity = canal;
                    bone = 2.8f;
                    blur = _half;
                }

                float inside = Cover(cavity, blur), value = 0;
                byte organ = 0;
                if (inside < 1)
                {
                    float outer = Cover(cavity + bone, blur);
                    if (outer < 1)
                    {
                        float skin = Skin(depth + shell + p.Scalp, xs, ys, zc, v), head = Cover(skin, blur);
                        value = head <= 0 ? -1000 : -1000 + head * (SoftTissue(skin, x, y, zc) + 1000);
                        organ = (byte)(head >= 0.5f ? PhantomOrgan.SoftTissue : PhantomOrgan.Outside);
                    }
                    if (outer > 0)
                    {
                        // Two tables with spongy bone between them.
                        float middle = (cavity + bone * 0.5f) / (bone * 0.33f);
                        value += outer * (p.Bone * (middle * middle < 1 ? 0.62f : 1) - value);
                        if (outer >= 0.5f) organ = (byte)PhantomOrgan.Bone;
                    }
                }
                if (inside > 0)
                {
                    _inside[i] = _tissue[i] = inside;
                    float brain = Brain(i, column, xs, y, zc, u, v, w, ratio, depth, cavity, blur, lesions, inside, out byte place);
                    value += inside * (brain + p.Cupping * (1 - Clamp01(depth * 0.06f)) - value);
                    if (inside >= 0.5f) organ = place;
                }
                hu[i] = value;
                organs[i] = organ;
            }
        }
    }

    /// <summary>Depth under the skin: the vault's shell above, an upright egg for face and neck below.</summary>
    private static float Skin(float vault, float xs, float ys, float z, float v)
    {
        if (z >= -8) return vault;
        float a = 71 * (1 - 0.10f * v - 0.10f * v * v) + 0.12f * (z + 30), back = 92 - 0.55f * Max(0, -52 - z);
        float ev = ys / (ys > 0 ? 90 : back + 4), eu = xs / a;
        float e = MathF.Sqrt(eu * eu + ev * ev) + 1e-4f, flat = MathF.Sqrt(xs * xs + ys * ys);
        return vault + (flat / e - flat - vault) * Clamp01((-8 - z) / 26);
    }

    /// <summary>
    /// Coordinates of one row, and how they lie to the inner table of the skull: a superellipsoid, broader behind than in front. This part runs for every
    /// pixel, so it is vectorised; elementwise operations give the same bits at any vector width.
    /// </summary>
    private void RowGeometry(int row, float z)
    {
        float px = PhysicalX(0), py = PhysicalY(row);
        float x0 = ToCanonical(0, px, py, z), y0 = ToCanonical(1, px, py, z), z0 = ToCanonical(2, px, py, z);
        float stepX = _toCanonical[0] * _pixel, stepY = _toCanonical[3] * _pixel, stepZ = _toCanonical[6] * _pixel;
        float grid = row * _gridStep;
        int above = (int)grid * GridSide;
        grid -= (int)grid;
        for (int i = 0; i < GridSide; i++)
        {
            _lineX[i] = _bendX[above + i] + grid * (_bendX[above + GridSide + i] - _bendX[above + i]);
            _lineY[i] = _bendY[above + i] + grid * (_bendY[above + GridSide + i] - _bendY[above + i]);
            _lineDepth[i] = _foldDepth[above + i] + grid * (_foldDepth[above + GridSide + i] - _foldDepth[above + i]);
        }
        Span<float> xs = _x.AsSpan(row * _size, _size), ys = _y.AsSpan(row * _size, _size), zs = _z.AsSpan(row * _size, _size);
        for (int column = 0; column < xs.Length; column++)
        {
            float at = column * _gridStep;
            int node = (int)at;
            at -= node;
            xs[column] = x0 + column * stepX + _lineX[node] + at * (_lineX[node + 1] - _lineX[node]);
            ys[column] = y0 + column * stepY + _lineY[node] + at * (_lineY[node + 1] - _lineY[node]);
            zs[column] = z0 + column * stepZ;
        }
        Vector<float> skew = new(_plan.Skew), tiny = new(1e-4f), one = Vector<float>.One;
        for (int column = 0; column < _size; column += Vector<float>.Count)
        {
            // Sizes that are no multiple of the vector width: the last vector overlaps the one before it.
            int c = Math.Min(column, _size - Vector<float>.Count);
            Vector<float> dy = new Vector<float>(ys[c..]) - new Vector<float>(CentreY), dz = new Vector<float>(zs[c..]) - new Vector<float>(CentreZ);
            Vector<float> dx = new Vector<float>(xs[c..]) + skew * dy;
            Vector<float> v = dy * (1 / 87f), w = dz * Vector.ConditionalSelect(Vector.GreaterThan(dz, Vector<float>.Zero), new Vector<float>(1 / 73f), new Vector<float>(1 / 74f));
            Vector<float> u = dx / ((one - 0.11f * v - 0.06f * v * v) * 68f);
            Vector<float> u2 = u * u, v2 = v * v, w2 = w * w, square = u2 + v2 + w2;
            Vector<float> ratio = Vector.SquareRoot(0.58f * square + 0.42f * Vector.SquareRoot(u2 * u2 + v2 * v2 + w2 * w2)) + tiny;
            Vector<float> length = Vector.SquareRoot(dx * dx + dy * dy + dz * dz);
            u.CopyTo(_rowU, c);
            square.CopyTo(_rowSquare, c);
            ratio.CopyTo(_rowRatio, c);
            length.CopyTo(_rowLength, c);
            (length / ratio - length).CopyTo(_rowDepth, c);
        }
    }

    /// <summary>
    /// Bends the slice a little and smoothly, by a field sampled on a coarse grid: nobody's head is made of ellipses. The face is bent more than the brain.
    /// </summary>
    private void BendGrid(float z)
    {
        for (int row = 0, i = 0; row < GridSide; row++)
            for (int column = 0; column < GridSide; column++, i++)
            {
                float px = PhysicalX(0) + column / _gridStep * _pixel, py = PhysicalY(0) - row / _gridStep * _pixel;
                float y = ToCanonical(1, px, py, z), zc = ToCanonical(2, px, py, z);
                float face = Clamp01((-14 - zc) / 20) * Clamp01((y + 30) / 30), wide = 1.2f + 0.8f * face, fine = 0.22f + 0.9f * face;
                float a = px * 0.19f + _plan.NoiseX, b = py * 0.19f + _plan.NoiseY, c = z * 0.14f + _plan.NoiseZ;
                _bendX[i] = wide * PhantomNoise.At(_folds, a, b, c) + fine * PhantomNoise.At(_folds, 2.7f * a, 2.7f * b, 2 * c);
                _foldDepth[i] = _plan.SulcusDepth * Clamp01(0.72f + 0.5f * PhantomNoise.At(_folds, a + 31, b, c));
                _bendY[i] = wide * PhantomNoise.At(_folds, b, c + 21, a) + fine * PhantomNoise.At(_folds, 2.7f * b, 2 * c + 13, 2.7f * a);
            }
    }

    private int RowOf(float canonicalY) =>
        (int)(0.5f * (_size - 1) - (canonicalY * _plan.ScaleY + _plan.OffsetY - CentreY * _plan.ScaleY) / _pixel);

    private float SoftTissue(float skin, float x, float y, float z)
    {
        if (skin < 2.2f) return 32;
        // Muscle with planes of fat below and at the temples; loose fat under the scalp elsewhere.
        float n = PhantomNoise.At(_folds, x * 0.30f + _plan.NoiseY, y * 0.30f, z * 0.16f);
        bool muscle = z < -22 || MathF.Abs(x) > 48 && y > -25 && y < 42 && z < 14;
        if (!muscle) return -55 + 45 * n;
        float fat = 2.2f * ((z < -22 ? 0.75f : 1.2f) - n);
        return -80 + (128 + 7 * n) * Clamp01(0.5f + fat);
    }

    /// <summary>Brain and the fluid around it, before ventricles and nuclei are painted.</summary>
    private float Brain(int i, int column, float x, float y, float z, float u, float v, float w, float ratio, float depth, float cavity, float blur,
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
        float petrous = Petrous(ax), tent = z < 7 && y < petrous + 2 ? z - Tentorium(ax, y) : 9;
        if (tent < 0)
        {
            value = Hindbrain(ax, y, z, x, cavity - gap * 0.7f, tent, petrous, blur, out organ);
        }
        else
        {
            value = Cerebrum(x, ax, y, z, qx, qy, qz, cavity, depth, gap, blur, i, column, lesions, inside, out organ);
            if (tent < 3 && y < petrous)
            {
                float dura = Sheet((tent - 0.5f) * 0.87f, 0.6f, _half + 0.3f * _thick);
                value += dura * (44 - value);
                if (dura > 0.5f) organ = (byte)PhantomOrgan.Tentorium;
            }
        }
        if (blood > 0) value += blood * (_extra!.Density - value);
        return value;
    }

    private float Hindbrain(float ax, float y, float z, float x, float surface, float tent, float petrous, float blur, out byte organ)
    {
        PhantomPlan p = _plan;
        float front = -40 + (petrous + 5 + 40) * Smooth((ax - 11) / 9);
        float inner = Min(surface, Min(-tent * 0.87f - 0.3f, (front - y) * 0.85f));
        float cleft = Max((ax - 9) * 0.7f, Max((z + 48) * 0.6f, -72 - y + ax * 0.5f > 0 ? -1 : 4));
        inner = Min(Min(inner, cleft + 3), z + 64);
        float cover = Cover(inner, blur);
        float fold = PhantomNoise.At(_folds, x * 0.12f + p.NoiseX, y * 0.75f + 0.02f * x * x, z * 0.7f + p.NoiseZ);
        float tissue = p.Grey - 2 - 2.5f * Smooth((inner - 12) / 10) + 1.2f * fold * (1 - Smooth((inner - 10) / 8));
        if (fold > 1.1f && inner < 12) tissue -= (p.Atrophy ? 9 : 3) * Min(1, fold - 1.1f);
        float csf = p.Csf;
        organ = (byte)(cover >= 0.5f ? PhantomOrgan.Cerebellum : PhantomOrgan.Cistern);
        float dura = Sheet((tent + 0.3f) * 0.87f, 0.6f, _half + 0.3f * _thick);
        float value = csf + cover * (tissue - csf);
        if (ax > 14 || y < -48) value += dura * (44 - value);
        return value;
    }

    private float Cerebrum(float x, float ax, float y, float z, float qx, float qy, float qz, float cavity, float depth, float gap, float blur,
        int i, int column, Span<byte> lesions, float inside, out byte organ)
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
            gap += 1.0f * bloody;
        }

        float surface = cavity - gap;
        // The longitudinal fissure with the falx, outside the outline of the corpus callosum.
        float cy = (y + 6) / 43, cz = (z - 4) / 25, callosum = cy * cy + cz * cz;
        float falx = 0;
        if (callosum > 1 && (y > 8 || z > 5 || y < -44))
        {
            float dm = ax;
            surface = Min(surface, dm - 0.5f - 0.55f * gap);
            float reach = y < -30 ? 1 : Clamp01((42 - depth) / 12) * (y > 25 ? 0.85f : 1);
            falx = Sheet(dm, 0.65f, _half + 0.2f) * Min(1, (callosum - 1) * 2) * reach;
        }

        float dGrey = surface;
        float cover = Cover(surface, _half + 0.3f * (blur - _half));
        float sulcus = 0, n = 0;
        if (surface < 27)
        {
            float side = x > 0 ? 0 : 29;
            n = PhantomNoise.At(_folds, qx * 0.31f + p.NoiseX + side, qy * 0.41f + p.NoiseY, qz * 0.28f + p.NoiseZ);
            float distance = MathF.Abs(n) * 4.6f;
            float deep = _lineDepth[(int)(column * _gridStep)];
            float taper = 1 - surface / deep;
            float half = (p.SulcusWidth + 1.0f * bloody) * narrow * (0.35f + 0.65f * taper);
            if (taper > 0)
            {
                sulcus = Sheet(distance, half, _half + 0.5f);
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
            float open = (0.5f + 0.75f * p.SulcusWidth + 1.2f * bloody) * narrow;
            float sheet = MathF.Abs(z - Sylvian(y) - (x > 0 ? p.SylvianLeft : p.SylvianRight) + 0.12f * (ax - 50) + 2.2f * n) * 0.8f, lateral = ax - 38;
            if (lateral > -2)
            {
                float side = Sheet(sheet, open * 0.8f, _half + 0.4f * _thick) * Clamp01((lateral + 2) / 3) * Clamp01((26 - y) / 8) * Clamp01((y + 46) / 10);
                sulcus = Max(sulcus, side);
                dGrey = Min(dGrey, Max(sheet - open, -lateral));
            }
            float insula = MathF.Abs(ax - 40 + 0.006f * (y + 2) * (y + 2) - 1.3f * n), height = Max(MathF.Abs(z - 5) - 10, MathF.Abs(y) - 15);
            if (height < 5)
            {
                float thin = open * 0.9f * Clamp01(0.6f - height / 8);
                sulcus = Max(sulcus, Sheet(insula, thin, _half));
                dGrey = Min(dGrey, Max(insula - thin, height));
            }
        }

        float grey = Cover(3.5f - dGrey, _half + 0.9f);
        float value = p.White + grey * (p.Grey - p.White);
        float fluid = 1 - cover * (1 - sulcus);
        value += fluid * (csf - value);
        if (inside >= 0.5f && bloody * fluid > 0.4f) lesions[i] = _subarachnoidMark;
        if (fluid > 0.5f) organ = (byte)PhantomOrgan.Sulcus;
        if (falx > 0)
        {
            value += falx * (50 - value);
            if (falx > 0.45f) organ = (byte)PhantomOrgan.Falx;
        }
        return value;
    }

    /// <summary>How bloody the fluid is at a point, 0 to 0.9: most around the base and the Sylvian fissure, none near the vertex.</summary>
    private float SubarachnoidShare(float x, float y, float z)
    {
        Side side = _subarachnoid!.Fact.Side;
        float weight = side == Side.Both ? 1 : Clamp01(((side == Side.Left ? x : -x) - 2) / 8);
        return 0.95f * weight * (1 - Smooth((z - 34) / 18)) * (1 - Smooth((-38 - y) / 26));
    }
}
