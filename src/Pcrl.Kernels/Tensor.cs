namespace Pcrl.Kernels;

/// <summary>Activations in a device's memory. A view shares the memory of the tensor it was taken from and must not outlive it.</summary>
public abstract class Tensor : IDisposable
{
    private protected Tensor(Device device, Shape shape)
    {
        Device = device;
        Shape = shape;
    }

    /// <summary>The device that holds the memory.</summary>
    public Device Device { get; }

    /// <summary>[N, H, W, C].</summary>
    public Shape Shape { get; }

    /// <summary>Another shape over a part of the same memory.</summary>
    /// <param name="shape">Shape of the view.</param>
    /// <param name="offset">Its first element, counted in this tensor.</param>
    /// <exception cref="ArgumentException">The view reaches outside this tensor.</exception>
    public Tensor View(Shape shape, long offset = 0)
    {
        if (offset < 0 || offset + shape.Count > Shape.Count)
            throw new ArgumentException($"a view of {shape} at {offset} reaches outside {Shape}");
        return CreateView(shape, offset);
    }

    /// <summary>The images <paramref name="first"/> … <paramref name="first"/> + <paramref name="count"/> − 1 as a view.</summary>
    public Tensor Images(int first, int count) => View(Shape with { N = count }, first * Shape.ImageCount);

    /// <summary>Copies host values in; as many as the tensor has elements.</summary>
    public void Write(ReadOnlySpan<float> values)
    {
        CheckLength(values.Length);
        CopyFrom(values);
    }

    /// <summary>Copies all values out, after the work queued before has finished.</summary>
    public void Read(Span<float> values)
    {
        CheckLength(values.Length);
        CopyTo(values);
    }

    /// <summary>All values in a new array.</summary>
    public float[] ToArray()
    {
        var values = new float[Shape.Count];
        Read(values);
        return values;
    }

    /// <summary>Frees the memory unless this is a view.</summary>
    public abstract void Dispose();

    private protected abstract Tensor CreateView(Shape shape, long offset);

    private protected abstract void CopyFrom(ReadOnlySpan<float> values);

    private protected abstract void CopyTo(Span<float> values);

    private void CheckLength(int length)
    {
        if (length != Shape.Count)
            throw new ArgumentException($"{length} values for a tensor of shape {Shape}");
    }
}
