using Pcrl.Train.Clues;
using Pcrl.Train.Data;
using Pcrl.Train.Losses;
using Pcrl.Train.Models;
using Pcrl.Train.Text;

namespace Pcrl.Train.Fitting;

/// <summary>Makes of a study's texts and clues what the losses work on.</summary>
/// <param name="tokenizer">Of the LLM.</param>
/// <param name="loss">Which losses there are; clues that none wants are not made.</param>
/// <param name="grid">Cells in a row of the model's masks.</param>
/// <param name="fit">How masks come to the grid, and which.</param>
internal sealed class JointTargets(Tokenizer tokenizer, LossConfig loss, int grid, JointFitConfig fit)
{
    private readonly ClueTexts _texts = new(loss, tokenizer);

    /// <summary>One target for every wording of the study's findings.</summary>
    public JointTarget[] Of(TrainingStudy study)
    {
        bool wanted = loss.Segmentation > 0 || loss.Entity > 0;
        var phantom = wanted && study.Clues is null && study.Raster is { } raster ? new PhantomClues(raster) : null;
        return [.. study.Findings.Select(text =>
        {
            var clues = !wanted ? [] : study.Clues ?? phantom?.Of(text, ClueVocabulary.Default, fit.OrganMasks) ?? [];
            return new JointTarget(
                LanguageStage.EncodeFindings(tokenizer, text),
                loss.Theme > 0 ? _texts.Encode(FindingsText.Clean(text, ClueVocabulary.Default)) : [],
                [.. clues.Select(c => new SliceTarget(c.Slice, _texts.Encode(c.Text), c.Mask.Area == 0 ? null : MaskGrid.Resize(c.Mask, grid, fit.Masks)))]);
        })];
    }
}
