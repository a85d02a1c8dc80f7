using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Pcrl.Runtime.Language.Native;

/// <summary>A loaded model; freed when the last context that uses it is gone.</summary>
internal sealed class LlamaModelHandle() : SafeHandle(0, ownsHandle: true)
{
    public override bool IsInvalid => handle == 0;

    protected override bool ReleaseHandle()
    {
        LlamaNative.FreeModel(handle);
        return true;
    }
}

/// <summary>A context: one sequence's cache of keys and values, and scratch memory. Keeps its model alive.</summary>
internal sealed unsafe class LlamaContextHandle() : SafeHandle(0, ownsHandle: true)
{
    private const int Float32 = 0; // ggml_type
    private readonly int* _abort = (int*)NativeMemory.AllocZeroed(sizeof(int));
    private LlamaModelHandle? _model;

    public override bool IsInvalid => handle == 0;

    /// <summary>Makes a context for one sequence.</summary>
    /// <param name="model">The model.</param>
    /// <param name="length">Most tokens of the sequence; all of them fit into one batch.</param>
    /// <param name="outputs">Positions of one batch whose logits can be asked for.</param>
    /// <param name="threads">CPU threads.</param>
    /// <exception cref="InputException">Not enough memory.</exception>
    public static LlamaContextHandle Create(LlamaModelHandle model, int length, int outputs, int threads)
    {
        var parameters = LlamaNative.ContextDefaults();
        parameters.ContextLength = parameters.Batch = parameters.PhysicalBatch = (uint)length;
        parameters.MaximumOutputs = parameters.MaximumOutputsPerSequence = (uint)outputs;
        parameters.Threads = parameters.BatchThreads = threads;
        // Sequences are short: exact keys and values and plain attention cost little and keep the numbers those of training.
        parameters.KeyType = parameters.ValueType = Float32;
        parameters.FlashAttention = 0;
        var context = LlamaNative.CreateContext(model, parameters);
        if (context.IsInvalid)
            throw new InputException("language model", $"a context of {length} tokens cannot be made ({LlamaLibrary.TakeErrors()})");
        bool added = false;
        model.DangerousAddRef(ref added); // llama.cpp frees a context through its model
        context._model = model;
        LlamaNative.SetAbortCallback(context, &ShouldAbort, context._abort);
        return context;
    }

    /// <summary>Makes a running <c>llama_decode</c> give up soon, or (false) allows the next one.</summary>
    public void Abort(bool abort) => Volatile.Write(ref *_abort, abort ? 1 : 0);

    protected override bool ReleaseHandle()
    {
        LlamaNative.FreeContext(handle);
        NativeMemory.Free(_abort);
        _model?.DangerousRelease();
        return true;
    }

    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static byte ShouldAbort(void* abort) => (byte)Volatile.Read(ref *(int*)abort);
}
