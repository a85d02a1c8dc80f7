namespace Pcrl.Kernels.Llm;

/// <summary>
/// Products of matrix rows with rows of activations, both float32. Sixteen sums, or eight with 256-bit vectors, run along a row and are added at its end: the order, and so each result's bits,
/// depends on nothing but the length and the processor.
/// </summary>
internal static unsafe partial class FloatProduct
{
    /// <summary>Matrix rows that are multiplied together; a matrix has at least as many.</summary>
    public const int Group = 8;

    /// <summary>The length of rows is a multiple of this.</summary>
    public const int Step = 16;

    /// <summary>Whether a matrix of so many rows of a length can be multiplied.</summary>
    public static bool Fits(long rows, long length) => rows >= Group && length % Step == 0;

    /// <summary>The products of matrix rows with two rows of activations, which may be the same.</summary>
    /// <param name="matrix">The first matrix row.</param>
    /// <param name="stride">Floats from one matrix row to the next.</param>
    /// <param name="count">Matrix rows, at least <see cref="Group"/>.</param>
    /// <param name="length">Elements of a row, a multiple of <see cref="Step"/>.</param>
    /// <param name="first">[length]</param>
    /// <param name="second">[length]</param>
    /// <param name="firstResult">[count]</param>
    /// <param name="secondResult">[count]</param>
    public static void Multiply(float* matrix, nint stride, int count, int length, float* first, float* second, float* firstResult, float* secondResult)
    {
        if (QuantisedRows.Has512)
            Multiply512(matrix, stride, count, length, first, second, firstResult, secondResult);
        else
            Multiply256(matrix, stride, count, length, first, second, firstResult, secondResult);
    }

    /// <summary>The first row of the group to which row <paramref name="at"/> belongs: what is left over at the end is made up to a group by rows that were done already.</summary>
    private static int GroupAt(int at, int count) => Math.Min(at, count - Group);
}
