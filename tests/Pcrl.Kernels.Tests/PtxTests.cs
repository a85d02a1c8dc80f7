using System.Reflection;
using Pcrl.Kernels.Convolution;
using Pcrl.Kernels.Pooling;

namespace Pcrl.Kernels.Tests;

public sealed class PtxTests
{
    public static IEnumerable<object[]> Portable =>
        from kernel in ((Type Owner, bool Grouped)[])[(typeof(GemmTile), true), (typeof(GpuMaxPool2d), false), (typeof(GpuAdaptiveAvgPool2d), false)]
        from major in (int[])[8, 9]
        select new object[] { kernel.Owner, kernel.Grouped, major };

    [SkippableTheory]
    [MemberData(nameof(Portable))]
    public void Dump(Type owner, bool grouped, int major)
    {
        string ptx = Ptx.Compile(owner.GetMethod("Kernel", BindingFlags.Static | BindingFlags.NonPublic | BindingFlags.Public)!, grouped, major);

        Assert.DoesNotContain(".local", ptx);
    }
}
