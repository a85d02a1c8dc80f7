using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;
using Pcrl.Runtime.Studies;
using Pcrl.Train.Models.Clip;
using Pcrl.Train.Models.Sam;
using TorchSharp;

namespace Pcrl.Train.Clues;

/// <summary>Makes the clues of a study: galleries by Segment Anything, retrieval by an image-text model (docs/clues.md).</summary>
public sealed class ClueMaker : IDisposable
{
    private readonly SamMaskGenerator _generator;
    private readonly ImageTextScorer _scorer;
    private readonly ClueVocabulary _vocabulary;
    private readonly torch.Tensor _prompts;
    private readonly byte[] _fingerprint;
    private readonly int _workers;

    /// <param name="sam">Segmenter; stays the caller's.</param>
    /// <param name="generator">How masks are generated.</param>
    /// <param name="scorer">Image-text model; stays the caller's.</param>
    /// <param name="vocabulary">Layers, entities, cleaning.</param>
    /// <param name="fingerprint">Tells this pair of models from any other, e.g. a digest of their files.</param>
    /// <param name="workers">Slices segmented at the same time.</param>
    public ClueMaker(
        SamModel sam, SamGeneratorConfig generator, ImageTextScorer scorer, ClueVocabulary vocabulary, string fingerprint, int workers)
    {
        _generator = new SamMaskGenerator(sam, generator);
        _scorer = scorer;
        _vocabulary = vocabulary;
        _workers = workers;
        _prompts = scorer.Texts([.. vocabulary.Entities.Select(vocabulary.PromptFor)]);
        _prompts.DetachFromDisposeScope();
        string settings = System.Text.Json.JsonSerializer.Serialize(new { fingerprint, generator, vocabulary });
        _fingerprint = SHA256.HashData(Encoding.UTF8.GetBytes(settings));
    }

    /// <summary>SHA-256 over everything that the study's clues follow from.</summary>
    public string Content(ClueStudy study)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(_fingerprint);
        Span<byte> size = stackalloc byte[4];
        BinaryPrimitives.WriteInt32LittleEndian(size, study.ImageSize);
        hash.AppendData(size);
        hash.AppendData(study.Slices);
        hash.AppendData(Encoding.UTF8.GetBytes(study.Findings));
        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    /// <summary>All automatic masks of every slice, before the gallery is chosen.</summary>
    public IReadOnlyList<SamMask>[] Segment(ClueStudy study, CancellationToken cancellation)
    {
        var masks = new IReadOnlyList<SamMask>[SliceSelector.Count];
        Parallel.For(0, masks.Length, new ParallelOptions { MaxDegreeOfParallelism = _workers, CancellationToken = cancellation }, s =>
        {
            torch.set_num_threads(1); // of this worker: the slices are what runs side by side
            byte[] colour = [.. study.Slice(s).ToArray().SelectMany(v => new[] { v, v, v })];
            masks[s] = _generator.Generate(colour, study.ImageSize, study.ImageSize, cancellation);
        });
        return masks;
    }

    /// <summary>The clues of a study.</summary>
    public StudyClues Make(ClueStudy study, CancellationToken cancellation = default) => Make(study, Segment(study, cancellation), cancellation);

    /// <summary>The clues of a study whose slices are segmented already.</summary>
    public StudyClues Make(ClueStudy study, IReadOnlyList<SamMask>[] masks, CancellationToken cancellation = default)
    {
        var galleries = Array.ConvertAll(masks, MaskGallery.Select);
        var text = FindingsText.Clues(study.Findings, _vocabulary);
        return new StudyClues
        {
            Id = study.Id,
            Content = Content(study),
            ImageSize = study.ImageSize,
            Theme = text.Theme,
            Entities = Retrieve(study, galleries, text.Entities, cancellation),
            Galleries = Array.ConvertAll(galleries, g => (IReadOnlyList<ClueMask>)
                [.. g.Select(m => new ClueMask(m.Mask.ToText(), m.PredictedIou, m.Stability))]),
        };
    }

    /// <summary>For every entity the mask that fits its prompt best, among those on the slices of its layers.</summary>
    private List<ClueEntity> Retrieve(
        ClueStudy study, IReadOnlyList<SamMask>[] galleries, IReadOnlyList<EntityClue> entities, CancellationToken cancellation)
    {
        var masks = galleries.SelectMany((gallery, s) => gallery.Select((mask, m) => (Slice: s, Index: m, mask.Mask))).ToList();
        float[,] scores = entities.Count == 0 ? new float[0, 0]
            : _scorer.Scores([.. masks.Select(m => MaskGallery.Masked(study.Slice(m.Slice), m.Mask))], _prompts, cancellation);
        var order = _vocabulary.Entities.Select((e, i) => (e, i)).ToDictionary(p => p.e, p => p.i);
        var found = new List<ClueEntity>();
        foreach (var (entity, text) in entities)
        {
            var layers = _vocabulary.LayersOf(entity).ToHashSet();
            int best = -1;
            for (int i = 0; i < masks.Count; i++)
            {
                if (layers.Contains(masks[i].Slice / SliceSelector.SlicesPerLayer)
                    && (best < 0 || scores[i, order[entity]] > scores[best, order[entity]]))
                    best = i;
            }
            found.Add(best < 0
                ? new ClueEntity(entity, text, -1, -1, 0)
                : new ClueEntity(entity, text, masks[best].Slice, masks[best].Index, scores[best, order[entity]]));
        }
        return found;
    }

    /// <inheritdoc/>
    public void Dispose() => _prompts.Dispose();
}
