using Pcrl.Train.Losses;
using Pcrl.Train.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Train.Fitting;

/// <summary>What a slice contributes to segment and entity alignment: the clues of all entities found on it, merged.</summary>
/// <param name="Slice">Index of the slice in its study.</param>
/// <param name="Text">Token ids of the clauses (<see cref="ClueTexts"/>); empty: the slice takes no part in entity alignment.</param>
/// <param name="Mask">The retrieved mask on the model's grid, [grid · grid] in 0..1; null: none was found, the slice takes no part in L_seg.</param>
public sealed record SliceTarget(int Slice, int[] Text, float[]? Mask);

/// <summary>What the losses want to know of a study besides its pictures.</summary>
/// <param name="Findings">Token ids with the end token.</param>
/// <param name="Theme">Token ids of the whole findings as a clue (<see cref="ClueTexts"/>).</param>
/// <param name="Slices">Slices with clues, each at most once; slices without any are left out.</param>
public sealed record JointTarget(int[] Findings, int[] Theme, IReadOnlyList<SliceTarget> Slices)
{
    /// <summary>What a token of the findings weighs in L_g beside those of other studies.</summary>
    public float Weight { get; init; } = 1;
}

/// <summary>The parts of a joint loss, each before its coefficient; 0 where a part is off or has nothing to work on.</summary>
public readonly record struct LossParts(double Report, double Segmentation, double Entity, double Theme);

/// <summary>
/// L = L_g + L_seg + L_CLe + L_CLt over a batch of studies. Reports, entity texts and theme texts go through the LLM in one forward pass of packed rows,
/// equal texts once.
/// <para>
/// An alignment compares what is in the batch it is given. Where workers share a step, each compares the slices and studies of its own share, and the losses
/// of the shares are averaged as their gradients are: so a share of one study has no theme loss.
/// </para>
/// </summary>
public sealed class JointObjective
{
    private readonly Prompt _prompt;
    private readonly LossConfig _config;

    /// <param name="prompt">The prompt the visual tokens stand in.</param>
    /// <param name="config">Coefficients and forms.</param>
    public JointObjective(Prompt prompt, LossConfig config) => (_prompt, _config) = (prompt, config);

    /// <summary>The loss of a batch.</summary>
    /// <param name="model">In training mode, see <see cref="PcrlModel.Train"/>.</param>
    /// <param name="features">The trunk's, slices of all studies in a row: [B·24, …].</param>
    /// <param name="batch">B studies.</param>
    /// <returns>The total, for <c>backward()</c>, in the caller's dispose scope; and its parts.</returns>
    public (Tensor Total, LossParts Parts) Loss(PcrlModel model, SliceFeatures features, IReadOnlyList<JointTarget> batch)
    {
        using var scope = NewDisposeScope();
        int slices = (int)(features.Pooled.shape[0] / batch.Count);
        var clues = batch.SelectMany((study, i) => study.Slices.Select(clue => (At: (long)i * slices + clue.Slice, Clue: clue))).ToList();
        var masked = _config.Segmentation > 0 ? clues.Where(c => c.Clue.Mask is not null).ToList() : [];
        var named = _config.Entity > 0 ? clues.Where(c => c.Clue.Text.Length > 0).ToList() : [];
        var themes = _config.Theme > 0 ? Enumerable.Range(0, batch.Count).Where(i => batch[i].Theme.Length > 0).ToList() : [];

        var encoding = model.Encode(features, local: masked.Count > 0 || named.Count > 1);
        var texts = new TextBatch();
        int[] entityTexts = named.Count > 1 ? [.. named.Select(c => texts.Add(c.Clue.Text))] : [];
        int[] themeTexts = themes.Count > 1 ? [.. themes.Select(i => texts.Add(batch[i].Theme))] : [];
        var (report, represented) = ReadTexts(model, encoding, batch, texts);

        Tensor? segmentation = null, entity = null, theme = null;
        if (masked.Count > 0)
            segmentation = Segmentation(model, Rows(encoding.Map!, masked.Select(c => c.At)), [.. masked.Select(c => c.Clue.Mask!)]);
        if (entityTexts.Length > 0)
            entity = Contrast(model.Local, Rows(encoding.Local!, named.Select(c => c.At)), Rows(represented!, entityTexts.Select(t => (long)t)), entityTexts);
        if (themeTexts.Length > 0)
        {
            var brightest = encoding.Global.view(batch.Count, slices, -1).amax([1]); // GMP over the slices: [B, D]
            theme = Contrast(model.Global, Rows(brightest, themes.Select(i => (long)i)), Rows(represented!, themeTexts.Select(t => (long)t)), themeTexts);
        }
        Tensor? total = null;
        foreach (var (part, coefficient) in (ReadOnlySpan<(Tensor?, double)>)[
            (report, _config.Report), (segmentation, _config.Segmentation), (entity, _config.Entity), (theme, _config.Theme)])
        {
            if (part is not null)
                total = total is null ? part * coefficient : total + part * coefficient;
        }
        total ??= zeros(1, requires_grad: true); // nothing to learn from in this batch
        return (total.MoveToOuterDisposeScope(), new LossParts(Value(report), Value(segmentation), Value(entity), Value(theme)));
    }

    /// <summary>L_g, and the representation of each text: [texts, width of the encoder].</summary>
    private (Tensor? Report, Tensor? Texts) ReadTexts(PcrlModel model, VisualEncoding encoding, IReadOnlyList<JointTarget> batch, TextBatch texts)
    {
        using var scope = NewDisposeScope();
        var llama = model.Language;
        bool bert = _config.TextEncoder == "bert";
        int visualTokens = model.Shape.Visual.TokenCount((int)(encoding.Global.shape[0] / batch.Count));
        int[][] findings = _config.Report > 0 ? [.. batch.Select(s => s.Findings)] : [];
        var sequences = findings.Select(f => _prompt.Sequence(visualTokens, f)).ToList();
        if (!bert)
            sequences.AddRange(texts.All.Select(text => Array.ConvertAll(text, id => (long)id)));

        Tensor? report = null, represented = null;
        if (sequences.Count > 0)
        {
            var rows = PackedRows.Of(sequences);
            var hidden = llama.Hidden(rows, rows.Embeddings(llama, findings.Length > 0 ? model.VisualTokens(encoding, batch.Count) : null)); // [rows · width, D]
            if (findings.Length > 0)
                report = _prompt.Loss(llama, hidden, rows, visualTokens, findings, batch.Any(s => s.Weight != 1) ? [.. batch.Select(s => s.Weight)] : null);
            if (sequences.Count > findings.Length)
            {
                var last = texts.All.Select((text, i) => rows.Start(findings.Length + i) + text.Length - 1);
                represented = Rows(_config.TextGradient ? hidden : hidden.detach(), last).to(float32);
            }
        }
        if (bert && texts.All.Count > 0)
            represented = ClueTexts.Represent(model.TextModel!, texts.All);
        return (report?.MoveToOuterDisposeScope(), represented?.MoveToOuterDisposeScope());
    }

    private Tensor Segmentation(PcrlModel model, Tensor maps, IReadOnlyList<float[]> masks)
    {
        using var scope = NewDisposeScope();
        var predicted = model.Masks.forward(maps); // [N, 1, g, g]
        var wanted = tensor(masks.SelectMany(m => m).ToArray()).view(predicted.shape);
        return (_config.Dice == "paper" ? DiceLoss.Paper(predicted, wanted) : DiceLoss.Released(predicted, wanted)).MoveToOuterDisposeScope();
    }

    /// <param name="heads">Take both sides into one space.</param>
    /// <param name="visual">[N, D].</param>
    /// <param name="text">[N, D], row by row.</param>
    /// <param name="texts">Which text each row is; equal ones have one number.</param>
    private Tensor Contrast(AlignmentHeads heads, Tensor visual, Tensor text, int[] texts)
    {
        using var scope = NewDisposeScope();
        var cosine = ContrastiveLoss.Cosine(heads.Visual.forward(visual), heads.Text.forward(text)); // [N, N]
        bool paper = _config.Contrast == "paper";
        var similarities = paper ? cosine / _config.Temperature : cosine * heads.LogitScale.exp();
        long pairs = cosine.shape[0];
        if (_config.EqualTexts == "spare")
        {
            if (texts.Distinct().Count() < 2)
                return (cosine.sum() * 0).MoveToOuterDisposeScope(); // nothing to compare with
            var same = tensor(texts.SelectMany((a, i) => texts.Select((b, j) => i != j && a == b)).ToArray()).view(pairs, pairs);
            similarities = similarities.masked_fill(same, double.NegativeInfinity);
        }
        var loss = paper
            ? ContrastiveLoss.Paper(similarities, _config.AlphaVisual / pairs, _config.AlphaText / pairs)
            : ContrastiveLoss.Released(similarities);
        return loss.MoveToOuterDisposeScope();
    }

    private static Tensor Rows(Tensor table, IEnumerable<long> rows) => table.index_select(0, tensor(rows.ToArray()));

    private static double Value(Tensor? part) => part is null ? 0 : part.cpu().item<float>();

    /// <summary>Texts of a batch, equal ones once.</summary>
    private sealed class TextBatch
    {
        private readonly Dictionary<string, int> _known = [];
        private readonly List<int[]> _texts = [];

        public IReadOnlyList<int[]> All => _texts;

        /// <summary>The text's index.</summary>
        public int Add(int[] text)
        {
            string key = string.Join(' ', text);
            if (_known.TryGetValue(key, out int index))
                return index;
            _texts.Add(text);
            return _known[key] = _texts.Count - 1;
        }
    }
}
