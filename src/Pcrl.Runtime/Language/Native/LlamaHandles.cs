using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Pcrl.Runtime.Language.Native;

/// <summary>A loaded model; freed when the last context that uses it is gone.</summary>
internal sealed class LlamaModelHandle() : SafeHandle(0, ownsHandle: true)
{
    public override bool IsInvalid => handle == 0;

    protected override bool ReleaseHandle()
    {
        LlamaThread.Run(() => LlamaNative.FreeModel(handle));
        return true;
    }
}

/// <summary>What a context must have room for.</summary>
/// <param name="Length">Most positions of a sequence.</param>
/// <param name="Sequences">Most sequences.</param>
/// <param name="Rows">Most rows of one batch.</param>
/// <param name="Outputs">Most rows of one batch whose logits can be asked for.</param>
/// <param name="Exact">Keys and values in float32 rather than half precision: for checks against other programs.</param>
internal sealed record LlamaContextSize(int Length, int Sequences, int Rows, int Outputs, bool Exact = false);

/// <summary>A context: the sequences' cache of keys and values, and scratch memory. Keeps its model alive.</summary>
internal sealed unsafe class LlamaContextHandle() : SafeHandle(0, ownsHandle: true)
{
    private const int Float32 = 0, Float16 = 1; // ggml_type
    private const int AttentionAsFits = -1, PlainAttention = 0; // llama_flash_attn_type
    private readonly int* _abort = (int*)NativeMemory.AllocZeroed(sizeof(int));
    private LlamaModelHandle? _model;

    public override bool IsInvalid => handle == 0;

    /// <summary>Makes a context.</summary>
    /// <param name="model">The model.</param>
    /// <param name="size">What it must have room for.</param>
    /// <exception cref="InputException">Not enough memory.</exception>
    public static LlamaContextHandle Create(LanguageModel model, LlamaContextSize size)
    {
        var parameters = LlamaNative.ContextDefaults();
        parameters.ContextLength = (uint)(size.Sequences * size.Length);
        parameters.Batch = parameters.PhysicalBatch = (uint)size.Rows;
        parameters.Sequences = (uint)size.Sequences;
        parameters.MaximumOutputs = (uint)size.Outputs;
        parameters.MaximumOutputsPerSequence = (uint)size.Outputs;
        parameters.Threads = parameters.BatchThreads = model.ContextThreads;
        parameters.KeyType = parameters.ValueType = size.Exact ? Float32 : Float16;
        // Sequences are short: on the CPU plain attention is faster, and it keeps the numbers those of training.
        parameters.FlashAttention = model.Device.Kind == LanguageDevice.Cpu ? PlainAttention : AttentionAsFits;
        var context = LlamaThread.Run(() => LlamaNative.CreateContext(model.Handle, parameters));
        if (context.IsInvalid)
            throw new InputException("language model", $"a context of {size.Sequences} x {size.Length} tokens cannot be made ({LlamaLibrary.TakeErrors()})");
        bool added = false;
        model.Handle.DangerousAddRef(ref added); // llama.cpp frees a context through its model
        context._model = model.Handle;
        LlamaNative.SetAbortCallback(context, &ShouldAbort, context._abort);
        return context;
    }

    /// <summary>Makes a running <c>llama_decode</c> give up soon, or (false) allows the next one.</summary>
    public void Abort(bool abort) => Volatile.Write(ref *_abort, abort ? 1 : 0);

    /// <summary>Reads a batch.</summary>
    /// <exception cref="InputException">It failed, or <see cref="Abort"/> ended it.</exception>
    public void Decode(LlamaBatch batch)
    {
        int result = LlamaNative.Decode(this, batch);
        if (result != 0)
            throw new InputException("language model", $"llama.cpp failed with code {result} ({LlamaLibrary.TakeErrors()})");
    }

    /// <summary>The logits that a row of the last batch gave, [vocabulary], with those of the rows behind it that give some; valid until the next batch.</summary>
    public float* Logits(int row)
    {
        float* logits = LlamaNative.Logits(this, row);
        return logits != null ? logits : throw new InvalidOperationException($"llama.cpp has no logits at {row}");
    }

    /// <inheritdoc cref="Logits(int)"/>
    public ReadOnlySpan<float> Logits(int row, int vocabulary) => new(Logits(row), vocabulary);

    protected override bool ReleaseHandle()
    {
        LlamaThread.Run(() => LlamaNative.FreeContext(handle));
        NativeMemory.Free(_abort);
        _model?.DangerousRelease();
        return true;
    }

    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static byte ShouldAbort(void* abort) => (byte)Volatile.Read(ref *(int*)abort);
}
