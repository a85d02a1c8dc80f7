namespace Pcrl.Runtime.Language.Native;

/// <summary>
/// Attention's products with the cache of keys and values, for a text and its draft: each row as llama.cpp computes a row that is alone, by the same function. llama.cpp
/// itself takes several rows another way, whose sums have another order, and a near tie between two tokens could then fall the other way where there is a draft.
/// </summary>
internal static unsafe class LlamaAttention
{
    /// <summary>Longer stretches of a text are prompts: they have no draft, and llama.cpp's way is faster for them.</summary>
    private const int MostRows = 16;

    /// <summary>Rows of the cache that a thread takes at a time: they stay in the first-level cache while the rows of the text pass.</summary>
    private const int Chunk = 32;

    /// <summary>
    /// Whether a product is of the cache (the first operand is a view then, not weights) with a few rows of a model whose weights <see cref="LlamaKernels"/> multiplies.
    /// In other models the weights' products depend on the number of rows anyway.
    /// </summary>
    public static bool IsOurs(GgmlTensor* cache, GgmlTensor* input) =>
        cache->Type == GgmlTensor.F16 && cache->Operation != GgmlTensor.None && cache->Stride[0] == sizeof(ushort)
        && input->Type == GgmlTensor.F32 && input->Stride[0] == sizeof(float) && input->Count[1] is > 1 and <= MostRows
        && WeightsBehind(input) is GgmlTensor.Q4K or GgmlTensor.Q6K;

    /// <summary>The type of the weights from which queries, or the scores made of queries, come.</summary>
    private static int WeightsBehind(GgmlTensor* tensor)
    {
        while (tensor != null && (tensor->Operation != GgmlTensor.MatrixProduct || tensor->First->Operation != GgmlTensor.None))
            tensor = tensor->Operation == GgmlTensor.MatrixProduct ? tensor->Second : tensor->First;
        return tensor == null ? -1 : tensor->First->Type;
    }

    /// <summary>Room for the rows in half precision.</summary>
    public static nuint WorkBytes(GgmlTensor* operation)
    {
        long* count = operation->Second->Count;
        return (nuint)(count[0] * count[1] * count[2] * count[3]) * sizeof(ushort);
    }

    /// <summary>A thread's share.</summary>
    /// <param name="llama">llama.cpp's functions.</param>
    /// <param name="work">Which share.</param>
    /// <param name="operation">The result, [texts, heads, rows, rows of the cache].</param>
    public static void Compute(in LlamaInternals llama, GgmlWork* work, GgmlTensor* operation)
    {
        GgmlTensor* cache = operation->First, input = operation->Second;
        long length = input->Count[0], rows = input->Count[1], heads = input->Count[2], places = operation->Count[0];
        ushort* halves = (ushort*)work->Memory;
        for (long row = work->Thread; row < rows * heads * input->Count[3]; row += work->Threads)
        {
            long text = row / (rows * heads), head = row / rows % heads;
            llama.ToHalf((float*)(input->Data + text * input->Stride[3] + head * input->Stride[2] + row % rows * input->Stride[1]), halves + row * length, length);
        }
        llama.WaitForAll(work->Pool);
        long chunks = (places + Chunk - 1) / Chunk;
        for (long part = work->Thread; part < chunks * heads * input->Count[3]; part += work->Threads)
        {
            long text = part / (chunks * heads), head = part / chunks % heads, first = part % chunks * Chunk;
            // Several heads of queries share one of keys and values.
            byte* shared = cache->Data + text * cache->Count[3] / input->Count[3] * cache->Stride[3] + head * cache->Count[2] / heads * cache->Stride[2];
            byte* result = operation->Data + text * operation->Stride[3] + head * operation->Stride[2];
            ushort* input16 = halves + (text * heads + head) * rows * length;
            for (long row = 0; row < rows; row++)
            {
                for (long place = first; place < Math.Min(places, first + Chunk); place++)
                    llama.HalfProduct((int)length, (float*)(result + row * operation->Stride[1]) + place, 0, shared + place * cache->Stride[1], 0, input16 + row * length, 0, 1);
            }
        }
    }
}
