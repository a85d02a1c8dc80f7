using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Pcrl.Kernels.Llm;

/// <summary>Half precision, for which .NET has no vector instruction.</summary>
internal static unsafe class HalfPrecision
{
    /// <summary>To float32, subnormals, infinities and NaN included.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> ToSingle(Vector256<ushort> halves)
    {
        var wide = Avx512F.ConvertToVector512Int32(halves);
        var size = wide & Vector512.Create(0x7FFF);
        var value = ((size << 13).AsSingle() * Vector512.Create(5.192296858534828e33f)).AsInt32(); // 2^112: the difference of the exponents' biases
        value |= Vector512.GreaterThan(size, Vector512.Create(0x7BFF)) & Vector512.Create(0x7F800000);
        return (value | ((wide & Vector512.Create(0x8000)) << 16)).AsSingle();
    }

    /// <inheritdoc cref="ToSingle(Vector256{ushort})"/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> ToSingle(Vector128<ushort> halves)
    {
        var wide = Avx2.ConvertToVector256Int32(halves);
        var size = wide & Vector256.Create(0x7FFF);
        var value = ((size << 13).AsSingle() * Vector256.Create(5.192296858534828e33f)).AsInt32();
        value |= Vector256.GreaterThan(size, Vector256.Create(0x7BFF)) & Vector256.Create(0x7F800000);
        return (value | ((wide & Vector256.Create(0x8000)) << 16)).AsSingle();
    }

    /// <summary>The same for a whole row.</summary>
    /// <param name="halves">[length]</param>
    /// <param name="length">Elements, a multiple of 16.</param>
    /// <param name="to">[length]</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void ToSingle(ushort* halves, int length, float* to)
    {
        if (QuantisedRows.Has512)
        {
            for (int at = 0; at < length; at += Vector512<float>.Count)
                ToSingle(Vector256.Load(halves + at)).Store(to + at);
            return;
        }
        for (int at = 0; at < length; at += Vector256<float>.Count)
            ToSingle(Vector128.Load(halves + at)).Store(to + at);
    }
}
