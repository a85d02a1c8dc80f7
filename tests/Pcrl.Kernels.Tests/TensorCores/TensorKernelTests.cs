using System.Runtime.InteropServices;
using ILGPU;
using ILGPU.Runtime;
using Pcrl.Kernels.Convolution;
using Pcrl.Kernels.Gpu;
using Pcrl.Kernels.TensorCores;

namespace Pcrl.Kernels.Tests.TensorCores;

/// <summary>The tensor-core kernel without a card: its PTX, instruction by instruction, against the reference.</summary>
public sealed class TensorKernelTests
{
    public static IEnumerable<object[]> Variants =>
        from tile in TensorTile.All
        from wholeChunks in (bool[])[true, false]
        from wholeStores in (bool[])[true, false]
        where wholeChunks || tile.GathersValues
        select new object[] { tile, wholeChunks, wholeStores };

    public static IEnumerable<object[]> Cases =>
        from tile in TensorTile.All
        from late in (bool[])[true, false]
        select new object[] { tile, late };

    [Theory]
    [MemberData(nameof(Cases))]
    internal void Convolutions_of_every_form_agree_with_the_reference(TensorTile tile, bool late)
    {
        OpCase[] cases =
        [
            new("whole chunks, several steps", new Conv2d(24, 40, 3) { Padding = 1, Relu = true }, new(2, 5, 7, 24), Residual: true),
            new("two tiles each way", new Conv2d(64, tile.Columns + 8, 1), new(1, tile.Rows + 1, 1, 64)),
            new("more steps than stages", new Linear(64 * 6, 16), Shape.Matrix(3, 64 * 6)),
            new("stem", new Conv2d(3, 16, 7) { Padding = 3, Stride = 2, Relu = true }, new(1, 12, 11, 3)),
            new("stem in blocks", new Conv2d(3, 16, 7) { Padding = 3, Stride = 2, Relu = true }, new(2, 8, 12, 3), Residual: true),
            new("blocks of three", new Conv2d(2, 8, 4) { Padding = 1, Stride = 3 }, new(1, 9, 6, 2)),
            new("one channel out", new Conv2d(16, 1, 1), new(1, 3, 3, 16), Residual: true),
            new("dilated, oblong", new Conv2d(8, 8, new Size(2, 3)) { Padding = new Size(2, 1), Dilation = new Size(2, 1), Stride = new Size(1, 2) }, new(1, 6, 7, 8)),
            new("groups of eight", new Conv2d(16, 16, 3) { Padding = 1, Groups = 2, Relu = true }, new(2, 4, 3, 16), Residual: true),
            new("groups of three", new Conv2d(6, 9, 3) { Groups = 3 }, new(2, 4, 3, 6), Residual: true),
            new("transposed", new ConvTranspose2d(16, 8, 2) { Stride = 2, Relu = true }, new(2, 3, 2, 16)),
            new("transposed, padded", new ConvTranspose2d(8, 3, 3) { Stride = 2, Padding = 1, OutputPadding = 1 }, new(1, 3, 4, 8), Residual: true),
            new("transposed, kernel below stride", new ConvTranspose2d(8, 8, 1) { Stride = 2, OutputPadding = 1 }, new(1, 2, 3, 8)),
        ];
        foreach (var opCase in cases)
            Check(opCase, tile, late, seed: 1);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void Random_awkward_shapes_agree_with_the_reference(int seed)
    {
        var random = new Random(seed);
        for (int i = 0; i < 40;)
        {
            var (op, input) = AwkwardShapes.Next(random);
            if (ConvolutionForm.Of(op, input) is null || op.Flops(input) > 1_000_000)
                continue;
            Check(new OpCase($"{i}: {op} on {input}", op, input, Residual: random.Next(2) == 0), TensorTile.All[^1], late: i % 2 == 0, seed: i);
            i++;
        }
    }

    [Theory]
    [InlineData(float.NaN)]
    [InlineData(float.PositiveInfinity)]
    [InlineData(float.NegativeInfinity)]
    public void NaN_and_infinity_arrive_where_the_reference_has_them(float poison)
    {
        foreach (int channels in (int[])[3, 8])
        {
            var opCase = new OpCase("poison", new Conv2d(channels, 8, 3) { Padding = 1, Relu = true }, new(1, 5, 5, channels));
            var data = opCase.Data(seed: 3).Rounded();
            data.X[7] = poison;
            data.X[50] = -poison;
            float[] got = Run(opCase, data, TensorTile.All[^1], late: true);
            Assert.True(opCase.RelativeError(data, got, int.MaxValue, 0) <= OpCase.Bf16Tolerance);
            Assert.Contains(got, v => float.IsNaN(v) || float.IsInfinity(v));
        }
    }

    [Theory]
    [InlineData("bar.sync 0;", "")] // values of other warps are read before they are there
    [InlineData("cp.async.wait_group 2;", "cp.async.wait_group 3;")] // one's own too
    [InlineData("cp.async.commit_group;", "")] // nothing to wait for
    [InlineData("xor.b32", "and.b32")] // another place than the weights were packed for
    public void What_would_be_wrong_on_a_card_is_wrong_here(string right, string wrong)
    {
        var opCase = new OpCase("more steps than stages", new Conv2d(64 * 6, 64, 1), new(1, 65, 1, 64 * 6));
        var data = opCase.Data(seed: 1).Rounded();
        var tile = TensorTile.All.Last(t => !t.Warpgroups);
        Assert.Equal(4, tile.Stages);
        Assert.True(opCase.RelativeError(data, Run(opCase, data, tile, late: true), int.MaxValue, 0) <= OpCase.Bf16Tolerance);
        Assert.False(opCase.RelativeError(data, Run(opCase, data, tile, late: true, ptx =>
        {
            Assert.Contains(right, ptx);
            return ptx.Replace(right, wrong);
        }), int.MaxValue, 0) <= OpCase.Bf16Tolerance);
    }

    [Theory]
    [MemberData(nameof(Variants))]
    internal void The_text_has_the_instructions_it_is_about_and_no_local_memory(TensorTile tile, bool wholeChunks, bool wholeStores)
    {
        string ptx = TensorKernel.Write(tile, wholeChunks, wholeStores);
        Assert.Contains(tile.Warpgroups ? $"wgmma.mma_async.sync.aligned.m64n{tile.PartColumns}k16" : "mma.sync.aligned.m16n8k16", ptx);
        Assert.Contains(tile.Warpgroups ? ".target sm_90a" : "ldmatrix.sync.aligned.m8n8.x4", ptx);
        Assert.Contains("cp.async.cg.shared.global", ptx);
        Assert.DoesNotContain(".local", ptx);
        Assert.True(tile.SharedBytes <= 227 << 10); // a block of a Hopper card has no more
    }

    [SkippableTheory]
    [MemberData(nameof(Variants))]
    internal void The_assembler_takes_it_without_spilling(TensorTile tile, bool wholeChunks, bool wholeStores)
    {
        Skip.If(Ptx.Assembler is null, "ptxas is not installed");
        foreach (string architecture in (string[])(tile.Warpgroups ? ["sm_90a"] : ["sm_80", "sm_89", "sm_90"]))
        {
            var (registers, spilled) = Ptx.Assemble(TensorKernel.Write(tile, wholeChunks, wholeStores), architecture);
            Assert.Equal(0, spilled);
            Assert.True(registers * tile.Threads <= 65536, $"{registers} registers");
        }
    }

    [Fact]
    public void Division_by_multiplication_is_exact()
    {
        var random = new Random(7);
        for (int i = 0; i < 100_000; i++)
        {
            int divisor = random.Next(1, 1 << random.Next(1, 31)), quotient = random.Next(int.MaxValue / divisor);
            var (reciprocal, shift) = TensorArguments.Division(divisor);
            foreach (int n in (int[])[quotient * divisor, quotient * divisor + divisor - 1, random.Next()])
                if (n >= 0)
                    Assert.Equal(n / divisor, (int)(((ulong)n * reciprocal) >> (int)shift));
        }
    }

    [Fact]
    public void Small_layers_get_small_tiles_and_a_card_with_little_shared_memory_gets_what_fits()
    {
        const int Hopper = 227 << 10, Ada = 99 << 10;
        Assert.True(Choose(rows: 24, columns: 4096, steps: 32) is { Rows: 64, Columns: 64, Warpgroups: true });
        Assert.True(Choose(rows: 24 * 32 * 32, columns: 256, steps: 36) is { Rows: 192, Columns: 256 }); // 128 blocks: one round of 132
        Assert.True(Choose(rows: 24 * 256 * 256, columns: 64, steps: 4, wholeChunks: false).GathersValues);
        Assert.All((int[])[1, 100, 10_000, 1_000_000], rows => Assert.True(Choose(rows, columns: 256, steps: 4, shared: Ada, hopper: false) is { SharedBytes: <= Ada, Warpgroups: false }));
        Assert.Throws<NotSupportedException>(() => Choose(rows: 1, columns: 1, steps: 1, shared: 16 << 10));

        static TensorTile Choose(long rows, int columns, int steps, bool wholeChunks = true, int shared = Hopper, bool hopper = true) =>
            TensorTile.Choose(rows, columns, steps, wholeChunks, multiprocessors: 132, shared, hopper);
    }

    [Theory]
    [InlineData("bar.sync 0;", "")] // values of other threads are multiplied before they are there, and overwritten before they are
    [InlineData("cp.async.wait_group 1;", "cp.async.wait_group 2;")]
    [InlineData("wgmma.wait_group.sync.aligned 1;", "wgmma.wait_group.sync.aligned 2;")] // a stage is filled again too early
    [InlineData("wgmma.wait_group.sync.aligned 0;", "")] // the last products are not waited for
    [InlineData("fence.proxy.async;", "", 5)]
    [InlineData("0x4000004000010000", "0x4000002000010000")] // lines that lie elsewhere
    public void What_would_be_wrong_on_Hopper_is_wrong_here(string right, string wrong, int channels = 64)
    {
        var opCase = new OpCase("more steps than stages", new Conv2d(channels, 64, new Size(1, 7)), new(1, 1, 71, channels));
        var data = opCase.Data(seed: 1).Rounded();
        var tile = TensorTile.All.Last(t => t.Warpgroups);
        Assert.Equal(4, tile.Stages);
        Assert.All((bool[])[true, false], late => Assert.True(Error(late, ptx => ptx) <= OpCase.Bf16Tolerance));
        Assert.Contains((bool[])[true, false], late => !(Error(late, ptx => ptx.Replace(right, wrong)) <= OpCase.Bf16Tolerance));

        double Error(bool late, Func<string, string> change) => opCase.RelativeError(data, Run(opCase, data, tile, late, ptx =>
        {
            Assert.Contains(right, ptx);
            return change(ptx);
        }), int.MaxValue, 0);
    }

    private static void Check(OpCase opCase, TensorTile tile, bool late, int seed)
    {
        var data = opCase.Data(seed).Rounded();
        double error = opCase.RelativeError(data, Run(opCase, data, tile, late), int.MaxValue, 0);
        Assert.True(error <= OpCase.Bf16Tolerance, $"{opCase.Name}: relative error {error:g3}");
    }

    private static byte[] Bytes(float[] values) => MemoryMarshal.AsBytes<ushort>(values.Select(Bfloat16.Round).ToArray()).ToArray();

    private static float[] Run(OpCase opCase, OpData data, TensorTile tile, bool late, Func<string, string>? change = null)
    {
        var shape = opCase.Operator.OutputShape(opCase.Input);
        var form = ConvolutionForm.Of(opCase.Operator, opCase.Input)!;
        var (inputShape, weight) = (opCase.Input, data.Weight);
        byte[] input = Bytes(data.X), residual = Bytes(data.Residual), output = Bytes([.. Enumerable.Repeat(float.NaN, (int)shape.Count)]);
        if (PixelBlocks.Of(opCase.Operator, opCase.Input, data.Weight) is { } found)
        {
            (form, inputShape, weight) = (found.Blocks.Form, found.Blocks.Shape, found.Weight);
            input = InBlocks(input, found.Blocks, opCase.Input.C);
        }
        foreach (var (grid, group) in form.Parts)
        {
            var product = TensorProduct.Plan(tile, form, grid, group, inputShape, shape, weight, data.Bias);
            string ptx = TensorKernel.Write(tile, product.WholeChunks, product.WholeStores);
            var machine = new PtxMachine(change is null ? ptx : change(ptx), tile.SharedBytes, late);
            var arguments = product.Arguments;
            arguments.Input = machine.Map(input) + product.FirstBytes.Input;
            arguments.Output = machine.Map(output) + product.FirstBytes.Output;
            arguments.Residual = opCase.Residual ? machine.Map(residual) + product.FirstBytes.Output : 0;
            arguments.Table = machine.Map(MemoryMarshal.AsBytes<int>(product.Table).ToArray());
            arguments.Weight = machine.Map(MemoryMarshal.AsBytes<ushort>(product.Weight).ToArray());
            arguments.Bias = machine.Map(MemoryMarshal.AsBytes<float>(product.Bias).ToArray());
            machine.Launch(product.Blocks, tile.Threads, MemoryMarshal.AsBytes(new ReadOnlySpan<TensorArguments>(in arguments)).ToArray());
        }
        return [.. MemoryMarshal.Cast<byte, ushort>(output).ToArray().Select(Bfloat16.ToFloat)];
    }

    private static byte[] InBlocks(byte[] input, PixelBlocks blocks, int channels)
    {
        using var device = (GpuDevice)Device.Open(DeviceKind.Emulator, precision: Precision.Bf16);
        using var from = device.Allocate(MemoryMarshal.Cast<byte, ushort>(input).ToArray());
        using var to = device.Allocate<ushort>(blocks.Shape.Count);
        device.Accelerator.LoadAutoGroupedStreamKernel<Index1D, ArrayView<ushort>, ArrayView<ushort>, int, int, int, int>(PixelBlocks.Kernel)(
            blocks.Lines, from.View, to.View, channels, blocks.Stride, blocks.Shape.W, blocks.Shape.C);
        return MemoryMarshal.AsBytes<ushort>(to.GetAsArray1D()).ToArray();
    }
}
