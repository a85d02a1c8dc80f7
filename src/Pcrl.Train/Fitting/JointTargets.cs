using Pcrl.Train.Clues;
using Pcrl.Train.Data;
using Pcrl.Train.Models;
using Pcrl.Train.Models.Clip;
using Pcrl.Train.Text;

namespace Pcrl.Train.Fitting;

/// <summary>Makes of a study's texts and clues what the losses of a run work on.</summary>
/// <param name="tokenizer">Of the LLM.</param>
/// <param name="config">Losses (clues that none wants are not made), the grid of the masks, how they come to it, and which.</param>
internal sealed class JointTargets(Tokenizer tokenizer, RunConfig config)
{
    private readonly ClueTexts _texts = new(config.Loss, tokenizer, config.Pretrained.BertVocabulary is { } file ? WordPieces(file) : null);

    private static Func<string, IEnumerable<int>> WordPieces(string file)
    {
        var pieces = MedClipScorer.ReadVocabulary(file);
        return text => pieces.EncodeToIds(text);
    }

    /// <summary>One target for every wording of the study's findings.</summary>
    public JointTarget[] Of(TrainingStudy study)
    {
        var (loss, fit) = (config.Loss, config.JointFit);
        bool wanted = loss.Segmentation > 0 || loss.Entity > 0;
        var phantom = wanted && study.Clues is null && study.Raster is { } raster ? new PhantomClues(raster) : null;
        return [.. study.Findings.Select(text =>
        {
            var clues = !wanted ? [] : study.Clues ?? phantom?.Of(text, ClueVocabulary.Default, fit.OrganMasks) ?? [];
            return new JointTarget(
                LanguageStage.EncodeFindings(tokenizer, text),
                loss.Theme > 0 ? _texts.Encode(FindingsText.Clean(text, ClueVocabulary.Default)) : [],
                [.. clues.Select(c => new SliceTarget(c.Slice, _texts.Encode(c.Text), c.Mask.Area == 0 ? null : MaskGrid.Resize(c.Mask, config.Visual.Grid, fit.Masks)))])
            {
                Weight = study.Spliceable ? fit.ScanWeight : 1,
            };
        })];
    }
}
