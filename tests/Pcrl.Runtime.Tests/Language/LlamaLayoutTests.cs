using System.Buffers.Binary;
using Pcrl.Runtime.Language.Native;

namespace Pcrl.Runtime.Tests.Language;

public sealed class LlamaLayoutTests
{
    /// <summary>Default structures as version 0.5.0 writes them, the rest of the probe untouched.</summary>
    private static byte[] Probe(int bytes, int untouchedTail, params (int Offset, uint Value)[] words)
    {
        var probe = new byte[LlamaLayout.ProbeBytes];
        Array.Fill(probe, LlamaLayout.Untouched);
        probe.AsSpan(0, bytes - untouchedTail).Clear();
        foreach (var (offset, value) in words)
            BinaryPrimitives.WriteUInt32LittleEndian(probe.AsSpan(offset), value);
        return probe;
    }

    private static byte[] Model()
    {
        byte[] probe = Probe(80, 2, (16, ~0u), (20, 1), (24, ~0u), (28, 1), (72, 0x10000));
        probe.AsSpan(36, 4).Fill(LlamaLayout.Untouched); // padding
        return probe;
    }

    private static byte[] Context()
    {
        const uint minusOne = 0xBF800000;
        byte[] probe = Probe(160, 0, (0, 512), (4, 2048), (8, 512), (12, 1), (24, 1), (28, 4), (32, 4), (40, ~0u), (44, ~0u), (48, ~0u), (52, ~0u),
            (64, minusOne), (68, minusOne), (72, minusOne), (76, minusOne), (84, minusOne), (104, 1), (108, 1), (128, 0x01010100), (132, 1));
        probe.AsSpan(134, 2).Fill(LlamaLayout.Untouched);
        return probe;
    }

    [Fact]
    public void The_pinned_layout_is_accepted()
    {
        Assert.Null(LlamaLayout.ModelProblem(Model()));
        Assert.Null(LlamaLayout.ContextProblem(Context()));
    }

    [Fact]
    public void Any_changed_byte_is_refused()
    {
        foreach (var (probe, problem, bytes, padding) in (IEnumerable<(byte[], Func<byte[], string?>, int, int[])>)[
            (Model(), p => LlamaLayout.ModelProblem(p), 80, [36, 37, 38, 39, 78, 79]), (Context(), p => LlamaLayout.ContextProblem(p), 160, [134, 135])])
        {
            for (int i = 0; i < bytes; i++)
            {
                byte[] changed = (byte[])probe.Clone();
                changed[i] ^= 0x10;
                Assert.Equal(padding.Contains(i), problem(changed) is null);
            }
        }
    }

    [Fact]
    public void A_longer_structure_is_refused()
    {
        byte[] longer = Context();
        longer.AsSpan(160, 8).Clear();
        Assert.Contains("longer than the 160 bytes", LlamaLayout.ContextProblem(longer));
        byte[] inserted = new byte[LlamaLayout.ProbeBytes];
        Context().AsSpan(0, 1000).CopyTo(inserted.AsSpan(4));
        Assert.Contains("llama_context_params has", LlamaLayout.ContextProblem(inserted));
    }

    [Fact]
    public void Own_kernels_are_for_the_pinned_commit_only()
    {
        Assert.Null(LlamaLayout.CommitProblem(LlamaLayout.GgmlCommit));
        Assert.Contains("commit 1234567, not 0ad4a86", LlamaLayout.CommitProblem("1234567"));
        Assert.NotNull(LlamaLayout.CommitProblem(null));
    }

    /// <summary>Its layout is checked when it is loaded; what stands in the way of the own kernels can only be the processor.</summary>
    [Fact]
    public void The_library_beside_the_program_is_the_pinned_one()
    {
        LlamaLibrary.Load();
        if (Pcrl.Kernels.Llm.QuantisedRows.IsSupported)
            Assert.Null(LlamaKernels.Problem);
        else
            Assert.Contains("AVX2", LlamaKernels.Problem);
    }
}
