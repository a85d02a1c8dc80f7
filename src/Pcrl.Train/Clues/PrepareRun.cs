using System.Diagnostics;
using Pcrl.Runtime;
using Pcrl.Train.Fitting;

namespace Pcrl.Train.Clues;

/// <summary>
/// Makes the clues of a whole data set: one file per study, written whole or not at all, skipped where it is already there for the same content.
/// It may be killed at any moment and started again.
/// </summary>
public static class PrepareRun
{
    /// <summary>Where the clues of a study lie.</summary>
    public static string FileOf(string folder, string id) => Path.Combine(folder, $"{id}.clues.json");

    /// <summary>Makes what is missing.</summary>
    /// <param name="data">The studies.</param>
    /// <param name="maker">Makes clues.</param>
    /// <param name="imageSize">Side at which slices are segmented.</param>
    /// <param name="folder">Output folder; made where it is missing.</param>
    /// <param name="progress">Told after every study.</param>
    /// <param name="cancellation">Stops between batches.</param>
    /// <returns>How many studies were made anew and how many were there already.</returns>
    /// <exception cref="InputException">A study cannot be read or the folder not be written.</exception>
    public static (int Made, int Skipped) Run(
        ClueDataset data, ClueMaker maker, int imageSize, string folder, IProgress<StageProgress> progress, CancellationToken cancellation)
    {
        OutputFolder.Make(folder);
        var clock = Stopwatch.StartNew();
        int made = 0;
        for (int i = 0; i < data.Ids.Count; i++)
        {
            cancellation.ThrowIfCancellationRequested();
            var study = data.Open(i, imageSize, cancellation);
            string file = FileOf(folder, study.Id);
            if (!IsDone(file, maker.Content(study)))
            {
                maker.Make(study, cancellation).Save(file);
                made++;
            }
            progress.Report(new StageProgress("prepare", i + 1, data.Ids.Count, "studies", clock.Elapsed, null));
        }
        return (made, data.Ids.Count - made);
    }

    private static bool IsDone(string file, string content)
    {
        if (!File.Exists(file))
            return false;
        try
        {
            return StudyClues.Load(file).Content == content;
        }
        catch (InputException)
        {
            return false; // damaged or of an older version: made anew
        }
    }
}
