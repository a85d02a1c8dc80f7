namespace Pcrl.Runtime.Vision;

/// <summary>Gives the values of a weight tensor, row-major in PyTorch's order; they need to stay valid only until the next call.</summary>
/// <param name="name">Name of the tensor in <c>visual.gguf</c>.</param>
/// <param name="shape">The shape that the config asks for, outermost first.</param>
/// <exception cref="InputException">There is no such tensor, or its shape is another.</exception>
public delegate ReadOnlySpan<float> WeightReader(string name, ReadOnlySpan<int> shape);
