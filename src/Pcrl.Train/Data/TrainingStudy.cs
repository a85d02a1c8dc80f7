using System.Diagnostics;
using System.Threading.Channels;
using Pcrl.Runtime.Studies;
using Pcrl.Train.Clues;
using Pcrl.Train.Fitting;

namespace Pcrl.Train.Data;

/// <summary>A study as the stages of training see it.</summary>
/// <param name="Seed">Seed of the phantom.</param>
/// <param name="Slices">[24, S, S] grey values 0 to 255 after windowing, caudal to cranial.</param>
/// <param name="Labels">[24, labels], 0, 1 or <see cref="Unknown"/> (see <see cref="SliceLabels"/>).</param>
/// <param name="Raster">Where on the slices what is; null where that is not known.</param>
/// <param name="Findings">Wordings of the findings; the first is the phantom's own.</param>
/// <param name="KeyPhrases">The truth in short phrases.</param>
public sealed record TrainingStudy(
    ulong Seed, byte[] Slices, byte[] Labels, SliceRaster? Raster, IReadOnlyList<string> Findings, IReadOnlyList<string> KeyPhrases)
{
    /// <summary>Clues that were prepared for the study; null: they follow from <see cref="Raster"/> where there is one, else there are none.</summary>
    public IReadOnlyList<SliceClue>? Clues { get; init; }

    /// <summary>A view of a scan, in whose turn the joint fit puts another study together from slices of several such views (<see cref="StudySplicer"/>): the findings say no more than the labels of the slices do.</summary>
    public bool Spliceable { get; init; }

    /// <summary>A label that nobody has given; it counts in no loss.</summary>
    public const byte Unknown = 255;

    /// <summary>0..1 in 8 bits, as the pictures have that the method was made for.</summary>
    internal static byte[] ToBytes(float[] images) => Array.ConvertAll(images, v => (byte)(255 * v + 0.5f));

    /// <summary>Makes the phantom of a seed and takes it the way every study goes: selection of 24 slices, window, resize.</summary>
    /// <param name="seed">Seed of the phantom.</param>
    /// <param name="options">How the phantom is made.</param>
    /// <param name="imageSize">Side S of the prepared slices.</param>
    /// <param name="wordings">Wordings of the findings; 0: one, which says the same fact always in the same words.</param>
    public static TrainingStudy FromPhantom(ulong seed, PhantomOptions options, int imageSize, int wordings)
    {
        var phantom = PhantomGenerator.Create(seed, options);
        var selection = SliceSelector.Select(phantom.Study);
        float[] images = SliceImages.Prepare(phantom.Study, selection, imageSize, WindowChoice.Brain);
        byte[] all = SliceLabels.Of(phantom);
        var labels = new byte[selection.Slices.Count * SliceLabels.Count];
        for (int i = 0; i < selection.Slices.Count; i++)
            all.AsSpan(selection.Slices[i].Slice * SliceLabels.Count, SliceLabels.Count).CopyTo(labels.AsSpan(i * SliceLabels.Count));
        var findings = new List<string> { wordings == 0 ? PhantomText.Compose(phantom.Truth, PhantomRandom.Typical) : phantom.Findings };
        for (int i = 1; i < wordings; i++)
            findings.Add(PhantomText.Compose(phantom.Truth, new PhantomRandom(seed, 100 + (ulong)i)));
        return new TrainingStudy(seed, ToBytes(images), labels, SliceRaster.Of(phantom, selection), findings, phantom.Truth.KeyPhrases);
    }

    /// <summary>How a run makes its studies.</summary>
    internal static Func<ulong, TrainingStudy> Maker(RunConfig config, float difficulty)
    {
        var options = new PhantomOptions { ImageSize = config.Phantoms.ImageSize, Difficulty = difficulty };
        return seed => FromPhantom(seed, options, config.Visual.ImageSize, config.Phantoms.Wordings);
    }

    /// <summary>Makes studies of consecutive seeds on several threads, in the order of the seeds.</summary>
    internal static List<TrainingStudy> Produce(
        string stage, ulong firstSeed, int count, int threads, Func<ulong, TrainingStudy> make,
        IProgress<StageProgress> progress, CancellationToken cancellation)
    {
        // The channel holds running tasks: its capacity bounds how many run, its order keeps the result independent of who is quickest.
        var channel = Channel.CreateBounded<Task<TrainingStudy>>(Math.Max(1, threads - 1));
        var clock = Stopwatch.StartNew();
        var producer = Task.Run(async () =>
        {
            for (int i = 0; i < count; i++)
            {
                ulong seed = firstSeed + (ulong)i;
                await channel.Writer.WriteAsync(Task.Run(() => make(seed), cancellation), cancellation);
            }
            channel.Writer.Complete();
        }, cancellation);
        var studies = new List<TrainingStudy>(count);
        while (studies.Count < count)
        {
            studies.Add(channel.Reader.ReadAsync(cancellation).AsTask().GetAwaiter().GetResult().GetAwaiter().GetResult());
            progress.Report(new StageProgress(stage, studies.Count, count, "studies", clock.Elapsed, null));
        }
        return studies;
    }
}
