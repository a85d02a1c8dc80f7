using Pcrl.Runtime;

namespace Pcrl.Train.Checkpoints;

/// <summary>Named tensors in files, whatever format they came in. <see cref="Checkpoint.Open"/> picks the reader.</summary>
public interface ITensorSource : IDisposable
{
    /// <summary>The file or folder as it was named on opening; error messages name it.</summary>
    string Path { get; }

    /// <summary>Names of all tensors.</summary>
    IReadOnlyCollection<string> Names { get; }

    /// <summary>Dimensions of a tensor, outermost first.</summary>
    /// <exception cref="InputException">No such tensor.</exception>
    IReadOnlyList<long> Shape(string name);

    /// <summary>A floating-point tensor as float32, row-major.</summary>
    /// <exception cref="InputException">Missing, or not floating-point.</exception>
    float[] ReadFloats(string name);

    /// <summary>Part of a floating-point tensor as float32, for tensors that are to pass through memory piece by piece.</summary>
    /// <param name="name">The tensor.</param>
    /// <param name="first">Row-major index of the first element.</param>
    /// <param name="values">Filled whole.</param>
    /// <exception cref="InputException">Missing, not floating-point, or shorter.</exception>
    void ReadFloats(string name, long first, Span<float> values);

    /// <summary>An integer or boolean tensor as 64-bit integers, row-major.</summary>
    /// <exception cref="InputException">Missing, or not integer.</exception>
    long[] ReadIntegers(string name);
}
