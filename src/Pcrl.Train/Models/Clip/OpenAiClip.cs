using Pcrl.Train.Checkpoints;
using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Train.Models.Clip;

/// <summary>
/// CLIP's state dict under OpenAI's own names (open_clip writes the same): queries, keys and values packed into one matrix, the two projections
/// transposed.
/// </summary>
internal static class OpenAiClip
{
    private const string VisionLayers = "visual.transformer.resblocks.", TextLayers = "transformer.resblocks.";

    /// <summary>Our names' parts and theirs, looked for in this order.</summary>
    private static readonly (string Ours, string Theirs)[] Parts =
    [
        ("vision_model.encoder.layers.", VisionLayers), ("text_model.encoder.layers.", TextLayers),
        ("self_attn.out_proj.", "attn.out_proj."), ("layer_norm1.", "ln_1."), ("layer_norm2.", "ln_2."), ("mlp.fc1.", "mlp.c_fc."), ("mlp.fc2.", "mlp.c_proj."),
        ("vision_model.embeddings.class_embedding", "visual.class_embedding"), ("vision_model.embeddings.patch_embedding.", "visual.conv1."),
        ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"), ("vision_model.pre_layrnorm.", "visual.ln_pre."),
        ("vision_model.post_layernorm.", "visual.ln_post."), ("visual_projection.weight", "visual.proj"),
        ("text_model.embeddings.token_embedding.", "token_embedding."), ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
        ("text_model.final_layer_norm.", "ln_final."), ("text_projection.weight", "text_projection"),
    ];

    /// <summary>Whether a checkpoint has these names.</summary>
    public static bool Recognises(IReadOnlySet<string> names) => names.Contains("visual.conv1.weight") && names.Contains("text_projection");

    /// <summary>Dimensions, from the shapes of the weights.</summary>
    public static ClipConfig Shape(ITensorSource weights)
    {
        int Size(string name, int dimension) => ImageTextScorer.Size(weights, name, dimension);
        int patch = Size("visual.conv1.weight", 2);
        int side = (int)Math.Round(Math.Sqrt(Size("visual.positional_embedding", 0) - 1));
        return new ClipConfig
        {
            ImageSize = side * patch,
            PatchSize = patch,
            VisionWidth = Size("visual.proj", 0),
            VisionLayers = ImageTextScorer.Layers(weights, VisionLayers),
            VocabSize = Size("token_embedding.weight", 0),
            ContextLength = Size("positional_embedding", 0),
            TextWidth = Size("text_projection", 0),
            TextLayers = ImageTextScorer.Layers(weights, TextLayers),
            ProjectionDim = Size("visual.proj", 1),
        };
    }

    /// <summary>Fills a model of that shape.</summary>
    /// <exception cref="Runtime.InputException">A weight is missing or has another shape, or something unexpected is left over.</exception>
    public static void Load(ITensorSource file, ClipModel model)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var wanted = new List<(string Name, Tensor Value)>();
        var packed = new List<(Tensor Value, Tensor[] Parts)>();
        var ours = Weights.Of(model).ToDictionary(w => w.Name, w => w.Value);
        foreach (var (name, value) in ours)
        {
            const string queries = "self_attn.q_proj.";
            if (name.Contains(queries))
            {
                Tensor[] parts = [value, ours[name.Replace(".q_proj.", ".k_proj.")], ours[name.Replace(".q_proj.", ".v_proj.")]];
                packed.Add((zeros([3 * value.shape[0], .. value.shape[1..]]), parts));
                wanted.Add((Name(name.Replace(queries, "attn.in_proj_")), packed[^1].Value));
            }
            else if (!name.Contains(".k_proj.") && !name.Contains(".v_proj."))
            {
                string theirs = Name(name);
                wanted.Add((theirs, theirs is "visual.proj" or "text_projection" ? value.t() : value));
            }
        }
        Weights.Load(file, wanted,
            ignore: name => name is "input_resolution" or "context_length" or "vocab_size" or "attn_mask");
        foreach (var (value, parts) in packed)
        {
            for (int i = 0; i < parts.Length; i++)
                parts[i].copy_(value.narrow(0, i * parts[i].shape[0], parts[i].shape[0]));
        }
    }

    private static string Name(string ours)
    {
        foreach (var (part, theirs) in Parts)
            ours = ours.Replace(part, theirs, StringComparison.Ordinal);
        return ours;
    }
}
