using System.Runtime.Intrinsics;

namespace Pcrl.Kernels.Cpu;

/// <summary>The few vector operations that transforms and pooling need, so that one source serves both widths.</summary>
/// <typeparam name="V">A vector of floats.</typeparam>
internal unsafe interface IFloatVector<V>
{
    /// <summary>Floats in a vector.</summary>
    static abstract int Lanes { get; }

    static abstract V All(float value);

    static abstract V Load(float* from);

    static abstract void Store(V value, float* to);

    static abstract V Add(V a, V b);

    static abstract V Subtract(V a, V b);

    static abstract V Multiply(V a, V b);

    /// <summary>a·b + c.</summary>
    static abstract V MultiplyAdd(V a, V b, V c);

    /// <summary>The larger of each pair; a NaN in either wins.</summary>
    static abstract V Max(V a, V b);

    /// <summary>Zero in place of what is below it; a NaN stays.</summary>
    static abstract V Relu(V a);

    /// <summary>Whether every float is 0.</summary>
    static abstract bool IsZero(V a);
}

/// <inheritdoc/>
internal readonly unsafe struct Floats512 : IFloatVector<Vector512<float>>
{
    public static int Lanes => Vector512<float>.Count;

    public static Vector512<float> All(float value) => Vector512.Create(value);

    public static Vector512<float> Load(float* from) => Vector512.Load(from);

    public static void Store(Vector512<float> value, float* to) => value.Store(to);

    public static Vector512<float> Add(Vector512<float> a, Vector512<float> b) => a + b;

    public static Vector512<float> Subtract(Vector512<float> a, Vector512<float> b) => a - b;

    public static Vector512<float> Multiply(Vector512<float> a, Vector512<float> b) => a * b;

    public static Vector512<float> MultiplyAdd(Vector512<float> a, Vector512<float> b, Vector512<float> c) => Vector512.FusedMultiplyAdd(a, b, c);

    public static bool IsZero(Vector512<float> a) => Vector512.EqualsAll(a, Vector512<float>.Zero);

    public static Vector512<float> Max(Vector512<float> a, Vector512<float> b) =>
        Vector512.ConditionalSelect(Vector512.GreaterThan(b, a) | ~Vector512.Equals(b, b), b, a); // Vector512.Max also orders the zeros, which takes several times as long

    public static Vector512<float> Relu(Vector512<float> a) => Vector512.ConditionalSelect(Vector512.LessThan(a, Vector512<float>.Zero), Vector512<float>.Zero, a);
}

/// <inheritdoc/>
internal readonly unsafe struct Floats256 : IFloatVector<Vector256<float>>
{
    public static int Lanes => Vector256<float>.Count;

    public static Vector256<float> All(float value) => Vector256.Create(value);

    public static Vector256<float> Load(float* from) => Vector256.Load(from);

    public static void Store(Vector256<float> value, float* to) => value.Store(to);

    public static Vector256<float> Add(Vector256<float> a, Vector256<float> b) => a + b;

    public static Vector256<float> Subtract(Vector256<float> a, Vector256<float> b) => a - b;

    public static Vector256<float> Multiply(Vector256<float> a, Vector256<float> b) => a * b;

    public static Vector256<float> MultiplyAdd(Vector256<float> a, Vector256<float> b, Vector256<float> c) => Vector256.FusedMultiplyAdd(a, b, c);

    public static bool IsZero(Vector256<float> a) => Vector256.EqualsAll(a, Vector256<float>.Zero);

    public static Vector256<float> Max(Vector256<float> a, Vector256<float> b) =>
        Vector256.ConditionalSelect(Vector256.GreaterThan(b, a) | ~Vector256.Equals(b, b), b, a); // Vector256.Max also orders the zeros, which takes several times as long

    public static Vector256<float> Relu(Vector256<float> a) => Vector256.ConditionalSelect(Vector256.LessThan(a, Vector256<float>.Zero), Vector256<float>.Zero, a);
}
