using Pcrl.Train.Models;
using Pcrl.Train.Models.Sam;
using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Train.Clues;

/// <summary>
/// Values from which a small Segment Anything learns within minutes. Torch's own are for models that learn for days: signals shrink from layer to layer, what all
/// points have in common drowns the point itself (all get the same mask for hundreds of steps), and attention looks everywhere.
/// </summary>
internal static class MiniSamStart
{
    /// <summary>Share of their usual size for parts that shall hardly be felt at first.</summary>
    private const double Faint = 0.1;

    /// <summary>Sharpness of the attention from a point to its patch.</summary>
    private const float Sharpness = 4;

    /// <summary>Layers whose output is added to what is there already: with little of it, pixels and points arrive whole at the end from the first step.</summary>
    private static readonly string[] Additions =
    [
        ".attn.proj.weight", ".mlp.lin2.weight", "layers.1.self_attn.out_proj.weight",
        "layers.1.cross_attn_token_to_image.out_proj.weight", "final_attn_token_to_image.out_proj.weight",
    ];

    /// <summary>Embeddings that are the same for all points.</summary>
    private static readonly string[] Constants =
        ["_embed.weight", "_token.weight", "_tokens.weight", "point_embeddings.0.weight", "point_embeddings.1.weight", "point_embeddings.2.weight", "point_embeddings.3.weight"];

    /// <summary>First self-attention of the decoder: what all tokens take up of one another.</summary>
    private static readonly string[] Shared = ["layers.0.self_attn.v_proj.weight", "layers.0.self_attn.out_proj.weight"];

    /// <summary>Fills a model.</summary>
    public static void Fill(SamModel sam)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        Initialisation.Widen(sam);
        var (width, heads) = (sam.Config.PromptEmbedDim, sam.Config.DecoderHeads);
        foreach (var (name, weight) in sam.named_parameters())
        {
            bool Is(string[] ends) => ends.Any(end => name.EndsWith(end, StringComparison.Ordinal));
            if (Is(Additions) || Is(Constants))
                weight.mul_(Faint);
            else if (name.Contains("cross_attn_image_to_token.out_proj"))
                weight.zero_(); // patches learn nothing of points: channels stay those that the organs were learned from
            else if (Is(Shared))
                weight.copy_(eye(width)); // all of them begin with the point's place
            else if (name.Contains("token_to_image") && Is(["q_proj.weight", "k_proj.weight"]))
                weight.copy_(Places(width, heads)); // and look at the patch there
            else if (name.Contains("token_to_image") && Is(["q_proj.bias", "k_proj.bias"]))
                weight.zero_();
            else if (name == "image_encoder.pos_embed")
                weight.copy_(SamPromptEncoder.Positions(sam.Config.GridSize, sam.Config.EmbedDim) * 0.5);
        }
    }

    /// <summary>
    /// Lets the layers that make a mask's weights of its token give a sum of known weights: a point has only to choose. [kinds, D/8], no more kinds than a token
    /// has numbers.
    /// </summary>
    public static void Know(SamModel sam, Tensor kinds)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        foreach (var (name, parameter) in sam.named_parameters().Where(p => Knows(p.name)))
        {
            parameter.zero_();
            if (name.EndsWith("weight", StringComparison.Ordinal))
                parameter.narrow(1, 0, kinds.shape[0]).copy_(kinds.t());
        }
    }

    /// <summary>Whether a parameter is of the layers that <see cref="Know"/> fills.</summary>
    public static bool Knows(string name) => name.Contains("output_hypernetworks_mlps") && name.Contains("layers.2.");

    /// <summary>
    /// [D/2, D]: every head reads some waves of the position encoding, sine and cosine. Two places then fit by the cosines of their distance.
    /// </summary>
    private static Tensor Places(int width, int heads)
    {
        int inner = width / 2, waves = inner / heads / 2;
        var map = new float[inner, width];
        for (int row = 0; row < 2 * waves * heads; row++)
        {
            int head = row / (2 * waves), wave = head * waves + row % waves;
            bool cosine = row % (2 * waves) >= waves;
            map[row, cosine ? width / 2 + wave : wave] = Sharpness;
        }
        return tensor(map);
    }
}
