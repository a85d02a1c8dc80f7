using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Pcrl.Runtime.Language.Native;

namespace Pcrl.Runtime.Tests.Language;

/// <summary>When llama.cpp goes on alone: each thing that is not as the own kernels know it, one at a time, beside the case in which nothing is wrong.</summary>
public sealed unsafe class LlamaKernelRefusalTests
{
    [Theory]
    [InlineData("", null, true, true, LlamaLayout.GgmlCommit)]
    [InlineData("", "on", true, true, LlamaLayout.GgmlCommit)]
    [InlineData("PCRL_OWN_KERNELS is off", "off", true, true, LlamaLayout.GgmlCommit)]
    [InlineData("Linux only", null, false, true, LlamaLayout.GgmlCommit)]
    [InlineData("no AVX2", null, true, false, LlamaLayout.GgmlCommit)]
    [InlineData("of commit 1234567", null, true, true, "1234567")]
    [InlineData("of commit unknown", null, true, true, null)]
    public void A_process_is_refused_for_one_reason(string problem, string? wish, bool isLinux, bool hasInstructions, string? commit)
    {
        string? refusal = LlamaKernels.Refusal(wish, isLinux, hasInstructions, commit);
        Assert.Equal(problem == "", refusal is null);
        Assert.Contains(problem, refusal ?? "");
    }

    private const string Q4KTable = "_ZTVN4ggml3cpu6repack13tensor_traitsI10block_q4_KLl8ELl8EL9ggml_type15EEE";
    private const string TypeTable = "_ZTVN4ggml3cpu6repack17extra_buffer_typeE";
    private const string TypeFunction = "_Z35ggml_backend_cpu_repack_buffer_typev", ListFunction = "_Z39ggml_backend_cpu_get_extra_buffer_typesv";
    private const int PermutedView = 38; // ggml_op
    private const nint Device = 0x1000, SomeTable = 0x2000, OtherTable = 0x3000;

    /// <summary>What the functions of a library that is no library return.</summary>
    private static readonly nint* Repacked = Memory(LlamaInternals.EntryWords), Other = Memory(LlamaInternals.EntryWords), List = Memory(3);

    private static nint* Memory(int words) => (nint*)NativeMemory.AllocZeroed((nuint)words, (nuint)sizeof(nint));

    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static nint* TellRepacked() => Repacked;

    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static nint* TellList() => List;

    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static nint* TellTypes(nint device) => null;

    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static byte Yes(nint type) => 1;

    /// <summary>Exports of a library whose list of buffer types holds <paramref name="types"/>, everything else being as expected.</summary>
    private static Dictionary<string, nint> Library(params ReadOnlySpan<nint> types)
    {
        nint* context = Memory(1), items = Memory(types.Length);
        *context = SomeTable + 16;
        (Repacked[LlamaInternals.EntryDevice], Repacked[LlamaInternals.EntryContext]) = (Device, (nint)context);
        types.CopyTo(new Span<nint>(items, types.Length));
        (List[0], List[1]) = ((nint)items, (nint)(items + types.Length));
        return new()
        {
            ["ggml_barrier"] = 1, ["ggml_threadpool_chunk_set"] = 2, ["ggml_threadpool_chunk_add"] = 3,
            [Q4KTable] = OtherTable, [TypeTable] = SomeTable,
            [TypeFunction] = (nint)(delegate* unmanaged[Cdecl]<nint*>)&TellRepacked, [ListFunction] = (nint)(delegate* unmanaged[Cdecl]<nint*>)&TellList,
        };
    }

    private static readonly nint TypesFunction = (nint)(delegate* unmanaged[Cdecl]<nint, nint*>)&TellTypes;

    private static string? Find(Dictionary<string, nint> library, nint device = Device, nint? typesFunction = null) =>
        LlamaInternals.Find(name => library.GetValueOrDefault(name), device, typesFunction ?? TypesFunction, out _);

    [Fact]
    public void A_library_that_is_not_as_expected_is_refused()
    {
        nint ours = (nint)Repacked, other = (nint)Other;
        var library = Library(other, ours);
        Assert.Null(LlamaInternals.Find(name => library[name], Device, TypesFunction, out var found));
        Assert.Equal((ours, OtherTable + 16, (nint)List), (found.Repacked, found.InterleavedQ4K, (nint)found.Entries));
        Assert.Equal((1, 2, 3), ((nint)found.WaitForAll, (nint)found.SetChunk, (nint)found.NextChunk));

        foreach (string missing in library.Keys)
            Assert.Contains($"does not export {missing}", Find(Library(other, ours).Where(entry => entry.Key != missing).ToDictionary()));
        Assert.Contains("another layout", Find(Library(other, ours), device: Device + 8));
        Assert.Contains("another layout", Find(new(Library(other, ours)) { [TypeTable] = SomeTable + 8 }));
        Assert.Contains("does not tell its buffer types", Find(Library(other, ours), typesFunction: 0));
        Assert.Contains("does not lay weights out anew", Find(Library(other)));
        Assert.Contains("does not lay weights out anew", Find(Library()));
    }

    /// <summary>The real one, wherever the tests run: only the processor may be at fault.</summary>
    [Fact]
    public void The_library_beside_the_program_is_as_expected()
    {
        LlamaLibrary.Load();
        Assert.Null(LlamaInternals.Find(out var found));
        Assert.NotEqual(0, found.InterleavedQ4K);
        // The entry of ours stands before llama.cpp's own.
        Assert.Equal(LlamaKernels.Problem is null, LlamaInternals.Items(found.Entries)[0] != found.Repacked);
    }

    private delegate void Change(ref GgmlTensor result, ref GgmlTensor weights, ref GgmlTensor input);

    [Fact]
    public void Products_that_the_kernels_do_not_know_are_left_to_llama_cpp()
    {
        LlamaLibrary.Load();
        nint* onHost = Memory(LlamaInternals.EntryWords), elsewhere = Memory(LlamaInternals.EntryWords), table = Memory(1), otherTable = Memory(1);
        onHost[5] = (nint)(delegate* unmanaged[Cdecl]<nint, byte>)&Yes; // is_host
        *table = 0x4000;
        var llama = new LlamaInternals { Repacked = 0x5000, InterleavedQ4K = *table };
        GgmlBuffer* repackedBuffer = Buffer(llama.Repacked), hostBuffer = Buffer((nint)onHost), otherBuffer = Buffer((nint)elsewhere);

        bool IsOurs(int type, Change? change = null)
        {
            GgmlTensor result = Tensor(GgmlTensor.F32), input = Tensor(GgmlTensor.F32), weights = Tensor(type);
            weights.Buffer = type == GgmlTensor.Q4K ? repackedBuffer : hostBuffer;
            weights.Extra = type == GgmlTensor.Q4K ? table : null;
            change?.Invoke(ref result, ref weights, ref input);
            return LlamaKernels.HasFloatRows(&result, &input)
                && (LlamaKernels.IsOfQuantisedWeights(llama, &weights, &input) || LlamaFloatProduct.IsOfWeights(&weights, &input));
        }

        foreach (int type in (int[])[GgmlTensor.Q4K, GgmlTensor.Q6K, GgmlTensor.F32])
        {
            Assert.True(IsOurs(type));
            Assert.True(IsOurs(type, (ref _, ref _, ref input) => input.Count[1] = 1));
            Assert.Equal(type == GgmlTensor.F32, IsOurs(type, (ref _, ref weights, ref _) => weights.Count[1] = 12)); // no whole groups of rows
            Assert.False(IsOurs(type, (ref _, ref weights, ref _) => weights.Buffer = null));
            Assert.False(IsOurs(type, (ref _, ref _, ref input) => input.Type = 1)); // F16
            Assert.False(IsOurs(type, (ref _, ref _, ref input) => input.Stride[0] = 8));
            Assert.False(IsOurs(type, (ref result, ref _, ref _) => result.Stride[0] = 8));
            Assert.False(IsOurs(type, (ref _, ref _, ref input) => input.Count[2] = 2));
            Assert.False(IsOurs(type, (ref _, ref _, ref input) => input.Count[3] = 2));
            Assert.False(IsOurs(type, (ref _, ref weights, ref _) => weights.Count[2] = 2));
            Assert.False(IsOurs(type, (ref _, ref weights, ref _) => weights.Count[3] = 2));
            Assert.False(IsOurs(type, (ref _, ref weights, ref _) => weights.Type = 13)); // Q5_K
            Assert.False(IsOurs(type, (ref _, ref weights, ref _) => weights.Buffer = otherBuffer)); // memory of a card
        }
        Assert.False(IsOurs(GgmlTensor.Q4K, (ref _, ref weights, ref _) => weights.Buffer = hostBuffer)); // as in the file
        Assert.False(IsOurs(GgmlTensor.Q4K, (ref _, ref weights, ref _) => weights.Extra = otherTable)); // another interleaving
        Assert.False(IsOurs(GgmlTensor.Q4K, (ref _, ref weights, ref _) => weights.Extra = null));
        Assert.False(IsOurs(GgmlTensor.Q6K, (ref _, ref weights, ref _) => weights.Buffer = repackedBuffer));
        Assert.False(IsOurs(GgmlTensor.F32, (ref _, ref weights, ref _) => weights.Operation = PermutedView)); // a cache in float32
        Assert.False(IsOurs(GgmlTensor.F32, (ref _, ref weights, ref _) => weights.Count[0] = 24)); // not in steps
        Assert.False(IsOurs(GgmlTensor.F32, (ref _, ref weights, ref _) => weights.Count[1] = 7)); // fewer than a group
        Assert.False(IsOurs(GgmlTensor.F32, (ref _, ref weights, ref _) => weights.Stride[0] = 8));

        // Attention: a view of the cache with what becomes of the rows of a text and its draft.
        bool IsAttention(Change? change = null, int weightType = GgmlTensor.Q4K, bool scores = false)
        {
            GgmlTensor weights = Tensor(weightType), queries = Tensor(GgmlTensor.F32), keys = Tensor(GgmlTensor.F16), product = Tensor(GgmlTensor.F32);
            GgmlTensor result = Tensor(GgmlTensor.F32), input = Tensor(GgmlTensor.F32), cache = Tensor(GgmlTensor.F16);
            queries.Operation = product.Operation = GgmlTensor.MatrixProduct;
            keys.Operation = cache.Operation = input.Operation = PermutedView;
            queries.First = &weights;
            product.First = &keys;
            product.Second = &queries;
            input.First = scores ? &product : &queries;
            cache.Stride[0] = sizeof(ushort);
            change?.Invoke(ref result, ref cache, ref input);
            return LlamaKernels.HasFloatRows(&result, &input) && LlamaFloatProduct.IsOfCache(&cache, &input);
        }

        Assert.True(IsAttention(weightType: GgmlTensor.Q6K));
        Assert.True(IsAttention(scores: true));
        Assert.True(IsAttention(weightType: GgmlTensor.F32));
        Assert.False(IsAttention(weightType: GgmlTensor.F16, scores: true));
        Assert.False(IsAttention((ref _, ref _, ref input) => input.First = null));
        Assert.True(IsAttention());
        Assert.True(IsAttention((ref _, ref cache, ref input) => (input.Count[2], input.Count[3], cache.Count[2], cache.Count[3]) = (32, 4, 8, 4)));
        Assert.False(IsAttention((ref _, ref _, ref input) => input.Count[3] = 4)); // other texts' cache
        Assert.False(IsAttention((ref _, ref cache, ref input) => (input.Count[2], cache.Count[2]) = (12, 8))); // heads that share nothing
        Assert.False(IsAttention((ref _, ref cache, ref _) => cache.Count[0] = 24));
        Assert.False(IsAttention((ref _, ref cache, ref _) => cache.Count[1] = 7));
        Assert.False(IsAttention((ref _, ref cache, ref _) => cache.Operation = GgmlTensor.None)); // weights
        Assert.False(IsAttention((ref _, ref cache, ref _) => cache.Type = GgmlTensor.F32));
        Assert.False(IsAttention((ref _, ref cache, ref _) => cache.Stride[0] = 4));
        Assert.False(IsAttention((ref _, ref _, ref input) => input.Type = GgmlTensor.F16));
        Assert.False(IsAttention((ref _, ref _, ref input) => input.Stride[0] = 8));

        static GgmlBuffer* Buffer(nint type)
        {
            var buffer = (GgmlBuffer*)NativeMemory.AllocZeroed((nuint)sizeof(GgmlBuffer));
            buffer->Type = type;
            return buffer;
        }

        static GgmlTensor Tensor(int type)
        {
            var tensor = new GgmlTensor { Type = type };
            (tensor.Count[0], tensor.Count[1], tensor.Count[2], tensor.Count[3]) = (256, 16, 1, 1);
            tensor.Stride[0] = sizeof(float);
            return tensor;
        }
    }
}
