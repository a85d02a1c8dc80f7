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
    private readonly Parameter weight;
    private readonly Linear? lora_A, lora_B;
    private readonly double _dropout, _scale;

    /// <param name="inputs">Width in.</param>
    /// <param name="outputs">Width out.</param>
    /// <param name="lora">The adapter; null for none.</param>
    public LoraLinear(int inputs, int outputs, LoraConfig? lora)
        : base(nameof(LoraLinear))
    {
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
    }

    /// <summary>[…, in] → […, out].</summary>
    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var y = functional.linear(x, weight);
        if (lora_A is not null)
            y += lora_B!.forward(lora_A.forward(Dropout(x))) * _scale;
        return y.MoveToOuterDisposeScope();
    }

    /// <summary>Dropout from this thread's own random numbers (torch's takes the global ones).</summary>
    private Tensor Dropout(Tensor x) => !training || _dropout == 0
        ? x
        : x * rand(x.shape, generator: TorchDevice.Random).ge(_dropout).to(x.dtype) / (1 - _dropout);

    /// <summary>W + (α/r)·B·A, [out, in]: the weight that a plain linear map needs to do the same.</summary>
    public Tensor Merged()
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var merged = lora_A is null ? weight.clone() : weight + lora_B!.weight!.matmul(lora_A.weight!) * _scale;
        return merged.MoveToOuterDisposeScope();
    }
}
