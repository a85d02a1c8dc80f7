using Pcrl.Train.Checkpoints;
using Pcrl.Train.Quantisation;
using Pcrl.Train.Torch;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace Pcrl.Train.Models;

/// <summary>
/// A bias-free linear map, with or without a low-rank adapter: y = Wx + (α/r)·B·A·dropout(x).
/// The parts are called <c>weight</c>, <c>lora_A.weight</c> and <c>lora_B.weight</c>, so that base and adapter keep the names
/// of Hugging Face and PEFT.
/// </summary>
public sealed class LoraLinear : Module<Tensor, Tensor>
{
    private readonly Parameter? weight;
    private readonly Nf4Weight? _quantised;
    private readonly Linear? lora_A, lora_B;
    private readonly double _dropout, _scale;

    /// <param name="inputs">Width in.</param>
    /// <param name="outputs">Width out.</param>
    /// <param name="lora">The adapter; null for none.</param>
    /// <param name="kind">How W lies in memory. Float32 starts random and can be trained; the others start undefined, to be loaded.</param>
    public LoraLinear(int inputs, int outputs, LoraConfig? lora, BaseWeights kind = BaseWeights.Float32)
        : base(nameof(LoraLinear))
    {
        Shape = [outputs, inputs];
        if (kind == BaseWeights.Nf4)
            _quantised = new Nf4Weight(outputs, inputs);
        else if (kind == BaseWeights.Bfloat16)
            weight = Parameter(empty(outputs, inputs, ScalarType.BFloat16), requires_grad: false);
        else
            weight = Parameter(Initialisation.Linear(outputs, inputs));
        if (lora is not null)
        {
            lora_A = Linear(inputs, lora.R, hasBias: false);
            lora_B = Linear(lora.R, outputs, hasBias: false);
            init.zeros_(lora_B.weight!); // the adapted model starts as the base model
            _dropout = lora.LoraDropout;
            _scale = lora.LoraAlpha / lora.R;
        }
        RegisterComponents();
        if (_quantised is not null)
            register_module("quantised", _quantised);
    }

    /// <summary>Whether a weight's name, the model's own or PEFT's, is that of an adapter.</summary>
    public static bool IsAdapter(string name) => name.Contains(".lora_", StringComparison.Ordinal);

    /// <summary>The adapter's weights, A and B; none without an adapter.</summary>
    internal IEnumerable<Tensor> Adapter => lora_A is null ? [] : [lora_A.weight!, lora_B!.weight!];

    /// <summary>[…, in] → […, out], in the type of the input.</summary>
    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var type = x.dtype;
        var y = functional.linear(x, weight?.dtype == type ? weight : Base(type));
        if (lora_A is not null)
            y += Adapt(Dropout(x)) * _scale;
        return y.MoveToOuterDisposeScope();
    }

    private Tensor Adapt(Tensor x) =>
        functional.linear(functional.linear(x, lora_A!.weight!.to(x.dtype)), lora_B!.weight!.to(x.dtype));

    /// <summary>W as a new tensor of the given type, [out, in].</summary>
    internal Tensor Base(ScalarType type) => weight is null ? _quantised!.Dequantise(type) : weight.to(type);

    /// <summary>[out, in].</summary>
    public long[] Shape { get; }

    /// <summary>Gives W its values, row-major, in whatever form it lies.</summary>
    /// <exception cref="ArgumentException">The number of values does not fit.</exception>
    public void SetBase(ReadOnlySpan<float> values)
    {
        if (weight is null)
            _quantised!.Set(values);
        else
            Weights.Set(weight, values);
    }

    /// <summary>Gives W random values of standard deviation 1/√inputs, quickly: for trials of size and time.</summary>
    internal void RandomiseBase(Random random)
    {
        if (_quantised is not null)
            _quantised.Randomise(random, 1 / MathF.Sqrt(Shape[1]));
        else
            weight!.detach().normal_(0, 1 / Math.Sqrt(Shape[1]));
    }

    /// <summary>Dropout from this thread's own random numbers (torch's takes the global ones).</summary>
    private Tensor Dropout(Tensor x) => !training || _dropout == 0
        ? x
        : x * TorchDevice.Uniform(x.shape).ge(_dropout).to(x.dtype) / (1 - _dropout);

    /// <summary>W + (α/r)·B·A, [out, in]: the weight that a plain linear map needs to do the same.</summary>
    public Tensor Merged()
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var merged = Base(ScalarType.Float32).clone();
        if (lora_A is not null)
            merged += lora_B!.weight!.matmul(lora_A.weight!) * _scale;
        return merged.MoveToOuterDisposeScope();
    }
}
