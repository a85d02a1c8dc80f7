using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.X86;
using Pcrl.Kernels.Llm;

namespace Pcrl.Runtime.Language.Native;

/// <summary>
/// Products that <see cref="LlamaKernels"/> computes in floating point: of float32 weights, and attention's with the cache of keys and values (in half
/// precision). llama.cpp itself sums one row in one order and several in another, and a near tie between two tokens could then fall the other way where
/// there is a draft.
/// </summary>
internal static unsafe class LlamaFloatProduct
{
    /// <summary>Floats of a matrix that stay in the first-level cache while rows of activations pass.</summary>
    private const int ChunkFloats = 4096;

    /// <summary>So far ahead the cache's rows are fetched: they lie apart, and no processor guesses where.</summary>
    private const int RowsAhead = 8;

    private const int CacheLine = 64;

    /// <summary>Whether a product is of float32 weights, [inputs, outputs], with rows.</summary>
    public static bool IsOfWeights(GgmlTensor* weights, GgmlTensor* input) =>
        weights->Type == GgmlTensor.F32 && weights->Operation == GgmlTensor.None && weights->Stride[0] == sizeof(float)
        && FloatProduct.Fits(weights->Count[1], weights->Count[0]) && LlamaKernels.AreMatrices(weights, input)
        && weights->Buffer != null && LlamaNative.IsHost(weights->Buffer->Type);

    /// <summary>
    /// Whether a product is of the cache (the first operand is a view then, not weights) with rows of a model whose weights <see cref="LlamaKernels"/> multiplies.
    /// In other models the weights' products depend on the number of rows anyway.
    /// </summary>
    public static bool IsOfCache(GgmlTensor* cache, GgmlTensor* input) =>
        cache->Type == GgmlTensor.F16 && cache->Operation != GgmlTensor.None && cache->Stride[0] == sizeof(ushort)
        && FloatProduct.Fits(cache->Count[1], cache->Count[0])
        && input->Count[2] % cache->Count[2] == 0 && input->Count[3] == cache->Count[3]
        && WeightsBehind(input) is GgmlTensor.Q4K or GgmlTensor.Q6K or GgmlTensor.F32;

    /// <summary>The type of the weights from which queries, or the scores made of queries, come.</summary>
    private static int WeightsBehind(GgmlTensor* tensor)
    {
        while (tensor != null && (tensor->Operation != GgmlTensor.MatrixProduct || tensor->First->Operation != GgmlTensor.None))
            tensor = tensor->Operation == GgmlTensor.MatrixProduct ? tensor->Second : tensor->First;
        return tensor == null ? -1 : tensor->First->Type;
    }

    /// <summary>Matrix rows that a thread takes at a time.</summary>
    private static int Chunk(GgmlTensor* matrix) => Math.Max(FloatProduct.Group, (int)(ChunkFloats / matrix->Count[0]) / FloatProduct.Group * FloatProduct.Group);

    /// <summary>Room in which each thread has a chunk of the cache in float32.</summary>
    public static nuint WorkBytes(GgmlTensor* operation, int threads) =>
        operation->First->Type == GgmlTensor.F32 ? 0 : (nuint)(threads * Chunk(operation->First) * operation->First->Count[0]) * sizeof(float) + CacheLine;

    /// <summary>A thread's share.</summary>
    /// <param name="work">Which share.</param>
    /// <param name="operation">The result, [texts, heads, rows, matrix rows], of a matrix, [texts, heads or fewer, matrix rows, length], and the input, [texts, heads, rows, length].</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)] // of a process that writes one report, too
    public static void Compute(GgmlWork* work, GgmlTensor* operation)
    {
        GgmlTensor* matrix = operation->First, input = operation->Second;
        int length = (int)matrix->Count[0], places = (int)matrix->Count[1], rows = (int)input->Count[1];
        int shared = (int)(input->Count[2] / matrix->Count[2]); // so many heads of queries have one of keys and values in common
        int chunk = Chunk(matrix), chunks = (places + chunk - 1) / chunk;
        float* converted = (float*)(((nuint)work->Memory + CacheLine - 1) / CacheLine * CacheLine) + (long)work->Thread * chunk * length;
        for (long part = work->Thread; part < chunks * matrix->Count[2] * matrix->Count[3]; part += work->Threads)
        {
            int place = (int)Math.Min(part % chunks * chunk, places - FloatProduct.Group); // the last chunk may be short of a group
            int count = Math.Min(chunk, places - place);
            long head = part / chunks % matrix->Count[2], text = part / chunks / matrix->Count[2];
            byte* stored = matrix->Data + text * matrix->Stride[3] + head * matrix->Stride[2] + place * matrix->Stride[1];
            float* chunkRows = (float*)stored;
            nint stride = (nint)matrix->Stride[1] / sizeof(float);
            if (matrix->Type == GgmlTensor.F16)
            {
                for (int row = 0; row < count; row++)
                {
                    for (int at = 0; at < length * sizeof(ushort); at += CacheLine)
                        Sse.Prefetch0(stored + (row + RowsAhead) * matrix->Stride[1] + at);
                    HalfPrecision.ToSingle((ushort*)(stored + row * matrix->Stride[1]), length, converted + row * length);
                }
                chunkRows = converted;
                stride = length;
            }
            for (int row = 0; row < shared * rows; row += 2)
            {
                int next = Math.Min(row + 1, shared * rows - 1);
                FloatProduct.Multiply(chunkRows, stride, count, length, Row(input, row), Row(input, next), Row(operation, row) + place, Row(operation, next) + place);
            }

            float* Row(GgmlTensor* tensor, int row) =>
                (float*)(tensor->Data + text * tensor->Stride[3] + (head * shared + row / rows) * tensor->Stride[2] + row % rows * tensor->Stride[1]);
        }
    }
}
