using Pcrl.Runtime;
using Pcrl.Train.Checkpoints;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace Pcrl.Train.Models.Clip;

/// <summary>A BERT encoder without pooler; parameter names are Hugging Face's.</summary>
public sealed class Bert : Module
{
    private readonly BertEmbeddings embeddings;
    private readonly BertEncoder encoder;

    /// <summary>Builds the encoder with random weights.</summary>
    public Bert(BertConfig config)
        : base(nameof(Bert))
    {
        embeddings = new BertEmbeddings(config);
        encoder = new BertEncoder(config);
        RegisterComponents();
    }

    /// <summary>
    /// Token ids and mask (1 = text, 0 = padding), both [B, T] int64 → the embedding output and the output of every layer, each [B, T, D].
    /// </summary>
    public IReadOnlyList<Tensor> HiddenStates(Tensor ids, Tensor mask)
    {
        using var scope = NewDisposeScope();
        var bias = (1 - mask.to(float32)).view(mask.shape[0], 1, 1, -1) * -1e30f; // [B, 1, 1, T]
        var states = new List<Tensor> { embeddings.forward(ids) };
        foreach (var layer in encoder.Layers)
            states.Add(layer.Forward(states[^1], bias));
        return [.. states.Select(s => s.MoveToOuterDisposeScope())];
    }

    /// <summary>Fills the encoder from a checkpoint under Hugging Face's names: of the encoder alone, of a model with heads around it, or of MedCLIP.</summary>
    /// <exception cref="InputException">It holds no BERT, or one of other dimensions.</exception>
    public void Load(ITensorSource file)
    {
        const string first = "embeddings.word_embeddings.weight";
        string prefix = new[] { "", "bert.", "text_model.model." }.FirstOrDefault(p => file.Names.Contains(p + first))
            ?? throw new InputException(file.Path, $"holds no BERT ({first})");
        Weights.Load(file, Weights.Of(this), name => prefix + name);
    }

    private sealed class BertEmbeddings : Module<Tensor, Tensor>
    {
        private readonly Embedding word_embeddings, position_embeddings, token_type_embeddings;
        private readonly Module<Tensor, Tensor> LayerNorm;

        public BertEmbeddings(BertConfig config)
            : base(nameof(BertEmbeddings))
        {
            word_embeddings = Embedding(config.VocabSize, config.HiddenSize);
            position_embeddings = Embedding(config.MaxPositionEmbeddings, config.HiddenSize);
            token_type_embeddings = Embedding(config.TypeVocabSize, config.HiddenSize);
            LayerNorm = nn.LayerNorm(config.HiddenSize, config.LayerNormEps);
            RegisterComponents();
        }

        public override Tensor forward(Tensor ids)
        {
            using var scope = NewDisposeScope();
            var positions = position_embeddings.weight!.narrow(0, 0, ids.shape[1]);
            return LayerNorm.forward(word_embeddings.forward(ids) + positions + token_type_embeddings.weight![0]).MoveToOuterDisposeScope();
        }
    }

    private sealed class BertEncoder : Module
    {
        private readonly ModuleList<BertLayer> layer;

        public BertEncoder(BertConfig config)
            : base(nameof(BertEncoder))
        {
            layer = new ModuleList<BertLayer>([.. Enumerable.Range(0, config.NumHiddenLayers)
                .Select(_ => new BertLayer(config.HiddenSize, config.NumAttentionHeads, config.IntermediateSize, config.LayerNormEps))]);
            RegisterComponents();
        }

        public IEnumerable<BertLayer> Layers => layer;
    }

    private sealed class BertLayer : Module
    {
        private readonly SplitAttention attention;
        private readonly Dense intermediate;
        private readonly NormedDense output;

        public BertLayer(int width, int heads, int hidden, double epsilon)
            : base(nameof(BertLayer))
        {
            attention = new SplitAttention(width, heads, epsilon);
            intermediate = new Dense(width, hidden);
            output = new NormedDense(hidden, width, epsilon);
            RegisterComponents();
        }

        public Tensor Forward(Tensor x, Tensor bias)
        {
            using var scope = NewDisposeScope();
            x = attention.Forward(x, bias);
            return output.Forward(functional.gelu(intermediate.forward(x)), x).MoveToOuterDisposeScope();
        }
    }

    /// <summary>attention.self and attention.output of a BERT layer.</summary>
    private sealed class SplitAttention : Module
    {
        private readonly QueryKeyValue self;
        private readonly NormedDense output;

        public SplitAttention(int width, int heads, double epsilon)
            : base(nameof(SplitAttention))
        {
            self = new QueryKeyValue(width, heads);
            output = new NormedDense(width, width, epsilon);
            RegisterComponents();
        }

        public Tensor Forward(Tensor x, Tensor bias)
        {
            using var scope = NewDisposeScope();
            return output.Forward(self.Forward(x, bias), x).MoveToOuterDisposeScope();
        }
    }

    /// <summary>LayerNorm(dense(x) + residual).</summary>
    private sealed class NormedDense : Module
    {
        private readonly Module<Tensor, Tensor> dense, LayerNorm;

        public NormedDense(int inputs, int outputs, double epsilon)
            : base(nameof(NormedDense))
        {
            dense = Linear(inputs, outputs);
            LayerNorm = nn.LayerNorm(outputs, epsilon);
            RegisterComponents();
        }

        public Tensor Forward(Tensor x, Tensor residual)
        {
            using var scope = NewDisposeScope();
            return LayerNorm.forward(dense.forward(x) + residual).MoveToOuterDisposeScope();
        }
    }
}

/// <summary>A linear layer that its checkpoint calls <c>dense</c>.</summary>
internal sealed class Dense : Module<Tensor, Tensor>
{
    private readonly Module<Tensor, Tensor> dense;

    public Dense(int inputs, int outputs)
        : base(nameof(Dense))
    {
        dense = Linear(inputs, outputs);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x) => dense.forward(x);
}

/// <summary>Multi-head attention with separate <c>query</c>, <c>key</c>, <c>value</c> and no output projection.</summary>
internal sealed class QueryKeyValue : Module
{
    private readonly Module<Tensor, Tensor> query, key, value;
    private readonly int _heads;

    public QueryKeyValue(int width, int heads)
        : base(nameof(QueryKeyValue))
    {
        _heads = heads;
        query = Linear(width, width);
        key = Linear(width, width);
        value = Linear(width, width);
        RegisterComponents();
    }

    /// <summary>[B, T, D] and an additive bias that broadcasts to [B, heads, T, T] → [B, T, D].</summary>
    public Tensor Forward(Tensor x, Tensor? bias)
    {
        using var scope = NewDisposeScope();
        Tensor Heads(Tensor y) => y.view(y.shape[0], y.shape[1], _heads, -1).transpose(1, 2);
        // The native call wants the mask at its full size.
        var mask = bias?.expand(x.shape[0], _heads, x.shape[1], x.shape[1]);
        var attended = functional.scaled_dot_product_attention(
            Heads(query.forward(x)), Heads(key.forward(x)), Heads(value.forward(x)), mask);
        return attended.transpose(1, 2).flatten(2).MoveToOuterDisposeScope();
    }
}
