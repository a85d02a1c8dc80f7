using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using Pcrl.Train.Evaluation;
using static Pcrl.Train.Data.PhantomAnatomy;

namespace Pcrl.Train.Data;

/// <summary>
/// Draws one plan, slice by slice. A voxel's value is a blend of the tissues it covers: edges are softened by the width of a pixel and, where a surface
/// is oblique, by the slice thickness, which stands for partial volume without supersampling.
/// </summary>
internal sealed partial class PhantomRenderer
{
    private readonly PhantomPlan _plan;
    private readonly int _size;
    private readonly ulong _seed;
    private readonly float _pixel, _half, _thick;
    private readonly List<Part> _parts;
    private readonly float[] _folds = PhantomNoise.Folds;

    // canonical = M · (physical − offset); physical = Inverse · canonical + offset. Rows of 3.
    private readonly float[] _toCanonical, _toPhysical;

    // One slice of work.
    private const int GridSide = 26;
    private readonly float _gridStep;
    private readonly float[] _bendX = new float[GridSide * GridSide], _bendY = new float[GridSide * GridSide], _foldDepth = new float[GridSide * GridSide];
    private readonly float[] _lineX = new float[GridSide], _lineY = new float[GridSide], _lineDepth = new float[GridSide];
    private readonly float[] _rowU, _rowSquare, _rowRatio, _rowLength, _rowDepth;
    private readonly float[] _x, _y, _z, _inside, _tissue, _covered;
    private readonly PlannedLesion? _extra, _subarachnoid, _intraventricular;
    private readonly byte _extraMark, _subarachnoidMark, _intraventricularMark;
    private readonly float _extraX, _extraY, _extraZ, _extraReach, _extraThick;
    private readonly int _extraSide;

    public PhantomRenderer(PhantomPlan plan, ulong seed, int size)
    {
        (_plan, _seed, _size) = (plan, seed, size);
        _pixel = plan.FieldOfView / size;
        _half = 0.5f * _pixel / plan.ScaleX + 0.25f;
        _gridStep = (GridSide - 2f) / size;
        _thick = 0.5f * plan.Spacing / plan.ScaleZ;
        _parts = PhantomParts.Make(plan, seed);
        (_toCanonical, _toPhysical) = Transforms(plan);
        int n = size * size;
        (_x, _y, _z, _inside, _tissue, _covered) = (new float[n], new float[n], new float[n], new float[n], new float[n], new float[n]);
        (_rowU, _rowSquare, _rowRatio, _rowLength, _rowDepth) = (new float[size], new float[size], new float[size], new float[size], new float[size]);
        for (int i = 0; i < plan.Lesions.Count; i++)
        {
            PlannedLesion lesion = plan.Lesions[i];
            byte mark = (byte)(i + 1);
            switch (lesion.Fact.Kind)
            {
                case LesionKind.Subdural or LesionKind.Epidural:
                    (_extra, _extraMark) = (lesion, mark);
                    LesionBlob at = lesion.Blobs[0];
                    float u = at.X / 68, v = (at.Y - CentreY) / 87, w = (at.Z - CentreZ) / 73;
                    float r = 75 / MathF.Sqrt(u * u + v * v + w * w);
                    (_extraX, _extraY, _extraZ) = (u * r, v * r, w * r);
                    (_extraThick, _extraReach, _extraSide) = (at.Rx, at.Ry, at.X > 0 ? 1 : -1);
                    break;
                case LesionKind.Subarachnoid:
                    (_subarachnoid, _subarachnoidMark) = (lesion, mark);
                    break;
                case LesionKind.Intraventricular:
                    (_intraventricular, _intraventricularMark) = (lesion, mark);
                    break;
            }
        }
    }

    /// <summary>Canonical height of slice <paramref name="slice"/> on the axis of the brain.</summary>
    public float AxisHeight(int slice) => ToCanonical(2, 0, -15 * _plan.ScaleY, Position(slice));

    public float Position(int slice) => _plan.FirstPosition + slice * _plan.Spacing;

    /// <summary>Draws slice <paramref name="slice"/> into [size, size] spans.</summary>
    public void Draw(int slice, Span<float> hu, Span<byte> organs, Span<byte> lesions)
    {
        float z = Position(slice);
        DrawBase(z, hu, organs, lesions);
        DrawParts(z, hu, organs, lesions);
        for (int i = 0; i < _plan.Lesions.Count; i++) DrawLesion(_plan.Lesions[i], (byte)(i + 1), z, hu, lesions);
        Finish(slice, z, hu);
    }

    private static (float[] ToCanonical, float[] ToPhysical) Transforms(PhantomPlan p)
    {
        static (double Sin, double Cos) Turn(float angle)
        {
            double a = angle, s = a - a * a * a / 6 + a * a * a * a * a / 120;
            return (s, Math.Sqrt(1 - s * s));
        }

        var (sy, cy) = Turn(p.Yaw);
        var (sp, cp) = Turn(p.Pitch);
        var (sr, cr) = Turn(p.Roll);
        // Rotation = yaw(z) · pitch(x) · roll(y), canonical to physical.
        double[,] pitch = { { 1, 0, 0 }, { 0, cp, sp }, { 0, -sp, cp } };
        double[,] yaw = { { cy, -sy, 0 }, { sy, cy, 0 }, { 0, 0, 1 } };
        double[,] roll = { { cr, 0, sr }, { 0, 1, 0 }, { -sr, 0, cr } };
        double[,] r = Multiply(yaw, Multiply(pitch, roll));
        double[] scale = [p.ScaleX, p.ScaleY, p.ScaleZ];
        var to = new float[9];
        var back = new float[9];
        for (int i = 0; i < 3; i++)
            for (int j = 0; j < 3; j++)
            {
                back[i * 3 + j] = (float)(r[i, j] * scale[j]);
                to[i * 3 + j] = (float)(r[j, i] / scale[i]);
            }
        return (to, back);

        static double[,] Multiply(double[,] a, double[,] b)
        {
            var c = new double[3, 3];
            for (int i = 0; i < 3; i++)
                for (int j = 0; j < 3; j++)
                    c[i, j] = a[i, 0] * b[0, j] + a[i, 1] * b[1, j] + a[i, 2] * b[2, j];
            return c;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private float ToCanonical(int axis, float x, float y, float z) =>
        _toCanonical[axis * 3] * x + _toCanonical[axis * 3 + 1] * y + _toCanonical[axis * 3 + 2] * z;

    // The canonical y origin lies 17 mm before the middle of the head: shift so that the head sits in the middle of the picture.
    private float PhysicalX(int column) => (column - 0.5f * (_size - 1)) * _pixel - _plan.OffsetX;

    private float PhysicalY(int row) => -(row - 0.5f * (_size - 1)) * _pixel - _plan.OffsetY + CentreY * _plan.ScaleY;

    /// <summary>
    /// Pixel rectangle that an ellipsoid (radii <paramref name="rx"/>, <paramref name="ry"/>, <paramref name="rz"/>) swept from A to B can touch in the slice
    /// at height <paramref name="z"/>; false when it touches none.
    /// </summary>
    private bool Bounds(float ax, float ay, float az, float bx, float by, float bz, float rx, float ry, float rz, float margin, float z,
        out int x0, out int x1, out int y0, out int y1)
    {
        x0 = x1 = y0 = y1 = 0;
        var (low, high) = Extent(2, 0.7f * _plan.Spacing);
        if (z < low || z > high) return false;
        float middle = 0.5f * (_size - 1);
        // Bending moves the ellipsoid by about the field's value at its middle.
        float px = At(0), py = At(1);
        int column = Math.Clamp((int)(((px + _plan.OffsetX) / _pixel + middle) * _gridStep + 0.5f), 0, GridSide - 1);
        int row = Math.Clamp((int)((middle - (py + _plan.OffsetY - CentreY * _plan.ScaleY) / _pixel) * _gridStep + 0.5f), 0, GridSide - 1);
        float bendX = _bendX[row * GridSide + column] * _plan.ScaleX, bendY = _bendY[row * GridSide + column] * _plan.ScaleY;
        (low, high) = Extent(0, margin);
        (low, high) = (low - bendX, high - bendX);
        x0 = Math.Max(0, (int)((low + _plan.OffsetX) / _pixel + middle));
        x1 = Math.Min(_size - 1, (int)((high + _plan.OffsetX) / _pixel + middle) + 1);
        (low, high) = Extent(1, margin);
        (low, high) = (low - bendY, high - bendY);
        float shift = _plan.OffsetY - CentreY * _plan.ScaleY;
        y0 = Math.Max(0, (int)(middle - (high + shift) / _pixel));
        y1 = Math.Min(_size - 1, (int)(middle - (low + shift) / _pixel) + 1);
        return x0 <= x1 && y0 <= y1;

        float At(int axis) => 0.5f * (_toPhysical[axis * 3] * (ax + bx) + _toPhysical[axis * 3 + 1] * (ay + by) + _toPhysical[axis * 3 + 2] * (az + bz));

        (float, float) Extent(int axis, float more)
        {
            float a = _toPhysical[axis * 3], b = _toPhysical[axis * 3 + 1], c = _toPhysical[axis * 3 + 2];
            float from = a * ax + b * ay + c * az, to = a * bx + b * by + c * bz;
            a *= rx; b *= ry; c *= rz;
            float reach = MathF.Sqrt(a * a + b * b + c * c) + more;
            return (Min(from, to) - reach, Max(from, to) + reach);
        }
    }

    private void DrawParts(float z, Span<float> hu, Span<byte> organs, Span<byte> lesions)
    {
        float shift = _plan.ShiftMm;
        foreach (ref readonly Part part in System.Runtime.InteropServices.CollectionsMarshal.AsSpan(_parts))
        {
            float lx = part.Bx - part.Ax, ly = part.By - part.Ay, lz = part.Bz - part.Az;
            float radius = Max(part.Ra, part.Rb), margin = 2.5f + _pixel + (part.Zone == PartZone.InsideSkull ? shift : 0);
            if (!Bounds(part.Ax, part.Ay, part.Az, part.Bx, part.By, part.Bz, radius / part.Sx + part.Soft, radius / part.Sy + part.Soft,
                radius / part.Sz + part.Soft, margin, z, out int x0, out int x1, out int y0, out int y1)) continue;
            float sx = part.Sx, sy = part.Sy, sz = part.Sz;
            lx *= sx; ly *= sy; lz *= sz;
            float length2 = lx * lx + ly * ly + lz * lz, inverse = length2 > 0 ? 1 / length2 : 0;
            bool fluid = part.Organ is PhantomOrgan.LateralVentricle or PhantomOrgan.ThirdVentricle or PhantomOrgan.FourthVentricle or PhantomOrgan.Cistern;
            for (int row = y0; row <= y1; row++)
            {
                int i = row * _size + x0;
                for (int column = x0; column <= x1; column++, i++)
                {
                    float dx = (_x[i] - part.Ax) * sx, dy = (_y[i] - part.Ay) * sy, dz = (_z[i] - part.Az) * sz;
                    float t = Clamp01((dx * lx + dy * ly + dz * lz) * inverse);
                    dx -= t * lx; dy -= t * ly; dz -= t * lz;
                    float r = part.Ra + t * (part.Rb - part.Ra), d2 = dx * dx + dy * dy + dz * dz;
                    float outer = r + (_half + _thick + part.Soft) * Max(sx, Max(sy, sz));
                    if (d2 > outer * outer) continue;
                    float d = MathF.Sqrt(d2) + 1e-6f;
                    float gx = dx * sx, gy = dy * sy, gz = dz * sz, g = MathF.Sqrt(gx * gx + gy * gy + gz * gz) + 1e-6f;
                    float blur = _half + _thick * MathF.Abs(gz) / g + part.Soft;
                    float cover = Cover((r - d) * d / g, blur);
                    if (part.Zone == PartZone.InsideSkull) cover *= _inside[i];
                    else if (part.Zone == PartZone.OutsideSkull) cover *= 1 - _inside[i];
                    if (cover <= 0) continue;
                    float value = part.Hu;
                    if (fluid) value = Fluid(part, i, cover, lesions, value);
                    hu[i] += cover * (value - hu[i]);
                    if (cover >= 0.5f) organs[i] = part.Soft > 0 ? organs[i] : LobeOr(part.Organ, i);
                    if (fluid) _tissue[i] *= 1 - cover;
                    else if (part.Zone == PartZone.Everywhere)
                    {
                        // Bone that juts into the cavity: nothing is painted over it afterwards.
                        _tissue[i] *= 1 - cover;
                        _inside[i] *= 1 - cover;
                    }
                }
            }
        }
    }

    private byte LobeOr(PhantomOrgan organ, int i) =>
        (byte)(organ == PhantomOrgan.Frontal ? Lobe(MathF.Abs(_x[i]), _y[i], _z[i]) : organ);

    /// <summary>Blood in ventricles (it settles at the back) and cisterns.</summary>
    private float Fluid(in Part part, int i, float cover, Span<byte> lesions, float value)
    {
        if (part.Organ == PhantomOrgan.Cistern)
        {
            if (_subarachnoid is null || part.Zone != PartZone.InsideSkull) return value;
            float blood = SubarachnoidShare(_x[i], _y[i], _z[i]);
            if (cover >= 0.5f && blood > 0.5f) lesions[i] = _subarachnoidMark;
            return value + blood * (_subarachnoid.Density - value);
        }
        if (_intraventricular is null || part.Organ == PhantomOrgan.FourthVentricle) return value;
        Side side = _intraventricular.Fact.Side;
        bool lateral = part.Organ == PhantomOrgan.LateralVentricle;
        if (lateral && side != Side.Both && (side == Side.Left) != part.Ax > 0) return value;
        if (!lateral && side != Side.Both) return value;
        float level = _intraventricular.Blobs[0].Y;
        float share = lateral ? Cover(level - _y[i], 2 + _half) : 0.8f;
        if (cover >= 0.5f && share > 0.5f) lesions[i] = _intraventricularMark;
        return value + share * (_intraventricular.Density - value);
    }

    private void DrawLesion(PlannedLesion lesion, byte mark, float z, Span<float> hu, Span<byte> lesions)
    {
        if (lesion.Fact.Kind >= LesionKind.Subdural) return;
        bool mass = lesion.Fact.Kind == LesionKind.Haemorrhage;
        float[] tissue = mass ? _inside : _tissue;
        float rough = lesion.Fact.Kind switch { LesionKind.Calcification => 0.08f, LesionKind.Infarct => 0.15f, _ => 0.11f };
        float soft = lesion.Fact.Kind switch { LesionKind.Infarct => 1.5f, LesionKind.Calcification => 0, _ => 0.6f };
        foreach (LesionBlob blob in lesion.Blobs)
        {
            float longest = Max(blob.Rx, Max(blob.Ry, blob.Rz));
            float ring = lesion.Oedema;
            float far = longest * 1.35f + ring + 6;
            if (!Bounds(blob.X, blob.Y, blob.Z, blob.X, blob.Y, blob.Z, far, far, far, _pixel, z, out int x0, out int x1, out int y0, out int y1)) continue;
            float frequency = Min(1.6f, 7 / longest);
            for (int row = y0; row <= y1; row++)
            {
                int i = row * _size + x0;
                float py = PhysicalY(row);
                for (int column = x0; column <= x1; column++, i++)
                {
                    if (_inside[i] <= 0) continue;
                    float px = PhysicalX(column);
                    float cx = ToCanonical(0, px, py, z) - blob.X, cy = ToCanonical(1, px, py, z) - blob.Y, cz = ToCanonical(2, px, py, z) - blob.Z;
                    float ux = (blob.Cos * cx + blob.Sin * cy) / blob.Rx, uy = (blob.Cos * cy - blob.Sin * cx) / blob.Ry, uz = cz / blob.Rz;
                    float q2 = ux * ux + uy * uy + uz * uz;
                    if (q2 > 9) continue;
                    float q = MathF.Sqrt(q2) + 1e-5f;
                    float gx = ux / blob.Rx, gy = uy / blob.Ry, gz = uz / blob.Rz, g = MathF.Sqrt(gx * gx + gy * gy + gz * gz) + 1e-6f;
                    float wave = PhantomNoise.At(_folds, cx * frequency + blob.X, cy * frequency + blob.Y, cz * frequency + blob.Z);
                    float d = (1 - q + rough * wave) * q / g;
                    float blur = _half + soft + _thick * MathF.Abs(gz) / g;
                    if (ring > 0)
                    {
                        float oedema = Cover(d + ring * (1 + 0.35f * wave), blur + 1.5f) * _tissue[i];
                        hu[i] += oedema * (Min(hu[i], _plan.White - 8) - hu[i]);
                    }
                    float cover = Cover(d, blur) * tissue[i];
                    if (cover <= 0) continue;
                    float core = lesion.Density + (lesion.Fact.Kind == LesionKind.Calcification ? 0 : 1.5f * wave);
                    hu[i] += cover * (core - hu[i]);
                    if (cover >= 0.5f) lesions[i] = mark;
                }
            }
        }
    }

    /// <summary>Cupping, streaks between the petrous bones, grain, calibration offset, head rest.</summary>
    private void Finish(int slice, float z, Span<float> hu)
    {
        var random = new PhantomRandom(_seed, 100 + (ulong)slice);
        float streak = _plan.Streaks * 11 * (1 - Smooth(MathF.Abs(AxisHeight(slice) + 38) / 18));
        float phase = random.Range(0, 64);
        if (streak > 0.3f)
        {
            for (int row = 0; row < _size; row++)
            {
                float py = PhysicalY(row);
                for (int column = 0, i = row * _size; column < _size; column++, i++)
                {
                    if (_inside[i] < 0.5f) continue;
                    float ax = MathF.Abs(_x[i]), y = _y[i];
                    float weight = 1 - Smooth((MathF.Abs(y + 26) - 6) / 24);
                    if (weight <= 0) continue;
                    float wave = PhantomNoise.At(_folds, phase + 0.02f * _x[i], 0.45f * py + 0.08f * _x[i], 7);
                    hu[i] += streak * weight * (wave * 0.6f - 0.5f * (1 - Smooth((ax - 8) / 20)));
                }
            }
        }
        float grain = _plan.Noise * Min(1.6f, Max(0.75f, 1.1f / MathF.Sqrt(_pixel + 0.2f)));
        PhantomNoise.AddGrain(hu, _size, grain, _pixel, random);
        if (_plan.Headrest > 0) DrawHeadrest(hu);
        TensorPrimitives.Add(hu, _plan.Offset, hu);
        TensorPrimitives.Max(hu, -1024f, hu);
    }

    private void DrawHeadrest(Span<float> hu)
    {
        // A shallow bowl behind the head: an arc of a circle in pixels of the field of view.
        float radius = 150, centre = 0.5f * _plan.FieldOfView - radius - 10 + _plan.Headrest;
        for (int row = _size / 2; row < _size; row++)
        {
            float dy = (row - 0.5f * (_size - 1)) * _pixel - centre;
            for (int column = 0; column < _size; column++)
            {
                int i = row * _size + column;
                if (hu[i] > -700) continue;
                float dx = (column - 0.5f * (_size - 1)) * _pixel;
                float cover = Sheet(MathF.Sqrt(dx * dx + dy * dy) - radius, 1.3f, 0.5f * _pixel);
                if (cover > 0) hu[i] += cover * (700 - hu[i]);
            }
        }
    }
}
