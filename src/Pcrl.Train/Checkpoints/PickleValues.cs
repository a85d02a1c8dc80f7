namespace Pcrl.Train.Checkpoints;

/// <summary>A name that a pickle refers to; only names on the reader's list exist.</summary>
internal sealed record PickledGlobal(string Name);

/// <summary>A run of elements that tensors look into.</summary>
/// <param name="Type">Element type as safetensors spells it.</param>
/// <param name="Key">Name of the data inside the file.</param>
/// <param name="First">First element inside that data (views of the oldest format; 0 otherwise).</param>
/// <param name="Count">Elements.</param>
internal sealed record PickledStorage(string Type, string Key, long First, long Count);

/// <summary>A tensor: shape and strides, in elements, over a storage that others may share.</summary>
internal sealed record PickledTensor(PickledStorage Storage, long Offset, long[] Shape, long[] Strides)
{
    /// <summary>Product of the shape; checked by <see cref="PickledTensor.Check"/> not to overflow.</summary>
    public long ElementCount => Shape.Aggregate(1L, (a, b) => a * b);

    /// <summary>Elements of the storage from the first that the tensor touches to behind the last.</summary>
    public long Extent => ElementCount == 0 ? 0 : 1 + Shape.Zip(Strides, (size, stride) => (size - 1) * stride).Sum();

    /// <summary>Whether the elements lie row-major without gaps.</summary>
    public bool IsContiguous
    {
        get
        {
            long expected = 1;
            for (int i = Shape.Length - 1; i >= 0; i--)
            {
                if (Shape[i] != 1 && Strides[i] != expected)
                    return false;
                expected *= Shape[i];
            }
            return true;
        }
    }

    /// <summary>What is wrong with the tensor's numbers, or null. Nothing overflows and nothing lies outside the storage afterwards.</summary>
    public string? Check()
    {
        if (Shape.Length != Strides.Length || Shape.Length > 64)
            return "has a shape and strides that don't fit";
        Int128 elements = 1, extent = 1;
        for (int i = 0; i < Shape.Length; i++)
        {
            if (Shape[i] < 0 || Strides[i] < 0)
                return "has a negative size or stride";
            elements *= Shape[i];
            if (elements > long.MaxValue / 16)
                return "has an impossible shape";
            extent += (Int128)Math.Max(0, Shape[i] - 1) * Strides[i];
        }
        if (Offset < 0 || (elements > 0 && Offset + extent > Storage.Count))
            return "reaches outside its storage";
        return null;
    }
}
