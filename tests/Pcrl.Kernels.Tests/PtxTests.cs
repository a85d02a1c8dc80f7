using System.Reflection;
using Pcrl.Kernels.Convolution;
using Pcrl.Kernels.Gpu;
using Pcrl.Kernels.Pooling;
using Pcrl.Kernels.TensorCores;

namespace Pcrl.Kernels.Tests;

/// <summary>Every kernel that ILGPU compiles, as the text that a card would get.</summary>
public sealed class PtxTests
{
    private static readonly Type[] Fp32 = [typeof(float), typeof(Fp32Element)], Bf16 = [typeof(ushort), typeof(Bf16Element)],
        Bf16Quads = [typeof(ulong), typeof(Bf16QuadElement)];

    public static IEnumerable<object[]> Kernels =>
        from kernel in (object[][])
        [
            [typeof(GemmTile), nameof(GemmTile.Kernel), Type.EmptyTypes, true],
            [typeof(GpuPooling), nameof(GpuPooling.MaxKernel), Fp32, false],
            [typeof(GpuPooling), nameof(GpuPooling.MaxKernel), Bf16, false],
            [typeof(GpuPooling), nameof(GpuPooling.MaxKernel), Bf16Quads, false],
            [typeof(GpuPooling), nameof(GpuPooling.MeanKernel), Fp32, false],
            [typeof(GpuPooling), nameof(GpuPooling.MeanKernel), Bf16, false],
            [typeof(GpuPooling), nameof(GpuPooling.MeanKernel), Bf16Quads, false],
            [typeof(GpuPooling), nameof(GpuPooling.LargeMeanKernel), Fp32, true],
            [typeof(GpuPooling), nameof(GpuPooling.LargeMeanKernel), Bf16, true],
            [typeof(GpuPooling), nameof(GpuPooling.LargeMeanKernel), Bf16Quads, true],
            [typeof(GpuPointwise), nameof(GpuPointwise.Kernel), Fp32, false],
            [typeof(GpuPointwise), nameof(GpuPointwise.Kernel), Bf16, false],
            [typeof(PixelBlocks), nameof(PixelBlocks.Kernel), Type.EmptyTypes, false],
            [typeof(GpuDevice), nameof(GpuDevice.ToHalvesKernel), Type.EmptyTypes, false],
            [typeof(GpuDevice), nameof(GpuDevice.ToFloatsKernel), Type.EmptyTypes, false],
        ]
        from major in (int[])[8, 9]
        select (object[])[.. kernel, major];

    [Theory]
    [MemberData(nameof(Kernels))]
    public void Compiles_without_local_memory(Type owner, string name, Type[] generic, bool grouped, int major)
    {
        string ptx = Compile(owner, name, generic, grouped, major);
        Assert.Contains(".visible .entry", ptx);
        Assert.DoesNotContain(".local", ptx);
        Assert.Equal(grouped, ptx.Contains("bar.sync"));
    }

    [SkippableTheory]
    [MemberData(nameof(Kernels))]
    public void The_assembler_takes_it_without_spilling(Type owner, string name, Type[] generic, bool grouped, int major)
    {
        Skip.If(Ptx.Assembler is null, "ptxas is not installed");
        var (registers, spilled) = Ptx.Assemble(Compile(owner, name, generic, grouped, major), $"sm_{major}0");
        Assert.Equal(0, spilled);
        Assert.True(registers <= 128, $"{registers} registers"); // or few groups fit on a multiprocessor
    }

    private static string Compile(Type owner, string name, Type[] generic, bool grouped, int major)
    {
        var kernel = owner.GetMethod(name, BindingFlags.Static | BindingFlags.NonPublic | BindingFlags.Public)!;
        return Ptx.Compile(generic.Length > 0 ? kernel.MakeGenericMethod(generic) : kernel, grouped, major);
    }
}
