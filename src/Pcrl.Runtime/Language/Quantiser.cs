using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Language.Native;

namespace Pcrl.Runtime.Language;

/// <summary>Encodes weights in the formats that llama.cpp quantises to, by llama.cpp's own code.</summary>
public static unsafe class Quantiser
{
    /// <summary>Encodes whole rows. May be called from several threads at once.</summary>
    /// <param name="type">Any type a GGUF may hold.</param>
    /// <param name="rows">Row-major; finite.</param>
    /// <param name="rowLength">Values of a row, a multiple of the type's block.</param>
    /// <param name="bytes">Gets exactly <see cref="GgufTensor.Bytes"/> of them.</param>
    /// <exception cref="ArgumentException">The lengths do not fit together.</exception>
    /// <exception cref="InputException">This llama.cpp encodes the type differently.</exception>
    public static void Encode(GgufType type, ReadOnlySpan<float> rows, int rowLength, Span<byte> bytes)
    {
        long rowBytes = GgufTensor.Bytes(type, rowLength);
        if (rows.Length % rowLength != 0 || rows.Length / rowLength * rowBytes != bytes.Length)
            throw new ArgumentException($"{bytes.Length} bytes for {rows.Length} values of {type} in rows of {rowLength}", nameof(bytes));
        if (type is GgufType.F32 or GgufType.F16 or GgufType.BF16)
        {
            FloatFormats.Narrow(type, rows, bytes);
            return;
        }
        LlamaLibrary.Load();
        var traits = LlamaNative.TypeTraits((int)type);
        if (traits->BlockElements != GgufTensor.Block(type)!.Value.Elements || (int)traits->BlockBytes != GgufTensor.Block(type)!.Value.Bytes)
            throw new InputException(LlamaLibrary.Folder, $"encodes {type} in other blocks than a GGUF file");
        fixed (float* values = rows)
        fixed (byte* blocks = bytes)
        {
            nuint written = LlamaNative.QuantizeChunk((int)type, values, blocks, 0, rows.Length / rowLength, rowLength, null);
            if (written != (nuint)bytes.Length)
                throw new InvalidOperationException($"llama.cpp wrote {written} bytes of {type}, {bytes.Length} were expected");
        }
    }
}
