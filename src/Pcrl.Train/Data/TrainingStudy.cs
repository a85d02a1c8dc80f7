using System.Runtime.CompilerServices;
using System.Threading.Channels;
using Pcrl.Runtime.Studies;

namespace Pcrl.Train.Data;

/// <summary>A study as the stages of training see it.</summary>
/// <param name="Seed">Seed of the phantom.</param>
/// <param name="Slices">[24, S, S] grey values 0 to 255 after windowing, caudal to cranial.</param>
/// <param name="Labels">[24, labels], 0 or 1 (see <see cref="SliceLabels"/>).</param>
/// <param name="Cells">[24, <see cref="LesionCells.Side"/>, <see cref="LesionCells.Side"/>] where lesions show: 0 or 1 + the label's index.</param>
/// <param name="Organs">[24, <see cref="LesionCells.Side"/>, <see cref="LesionCells.Side"/>] organs (see <see cref="LesionCells.Organs"/>).</param>
/// <param name="Findings">Wordings of the findings; the first is the phantom's own.</param>
/// <param name="KeyPhrases">The truth in short phrases.</param>
public sealed record TrainingStudy(
    ulong Seed, byte[] Slices, byte[] Labels, byte[] Cells, byte[] Organs, IReadOnlyList<string> Findings, IReadOnlyList<string> KeyPhrases)
{
    /// <summary>Makes the phantom of a seed and takes it the way every study goes: selection of 24 slices, window, resize.</summary>
    /// <param name="seed">Seed of the phantom.</param>
    /// <param name="options">How the phantom is made.</param>
    /// <param name="imageSize">Side S of the prepared slices.</param>
    /// <param name="wordings">Wordings of the findings, at least 1.</param>
    public static TrainingStudy FromPhantom(ulong seed, PhantomOptions options, int imageSize, int wordings)
    {
        var phantom = PhantomGenerator.Create(seed, options);
        int[] chosen = StubSlices.Choose(phantom);
        byte[] slices = StubSlices.Prepare(phantom.Study, chosen, imageSize);
        byte[] all = SliceLabels.Of(phantom);
        var labels = new byte[chosen.Length * SliceLabels.Count];
        for (int i = 0; i < chosen.Length; i++)
            all.AsSpan(chosen[i] * SliceLabels.Count, SliceLabels.Count).CopyTo(labels.AsSpan(i * SliceLabels.Count));
        var findings = new List<string> { phantom.Findings };
        for (int i = 1; i < wordings; i++)
            findings.Add(PhantomText.Compose(phantom.Truth, new PhantomRandom(seed, 100 + (ulong)i)));
        return new TrainingStudy(seed, slices, labels, LesionCells.Of(phantom, chosen), LesionCells.Organs(phantom, chosen), findings, phantom.Truth.KeyPhrases);
    }

    /// <summary>Makes studies of consecutive seeds on several threads, in the order of the seeds.</summary>
    public static async IAsyncEnumerable<TrainingStudy> Produce(
        ulong firstSeed, int count, int threads, Func<ulong, TrainingStudy> make, [EnumeratorCancellation] CancellationToken cancellation)
    {
        // The channel holds running tasks: its capacity bounds how many run, its order keeps the result independent of who is quickest.
        var channel = Channel.CreateBounded<Task<TrainingStudy>>(Math.Max(1, threads - 1));
        var producer = Task.Run(async () =>
        {
            for (int i = 0; i < count && !cancellation.IsCancellationRequested; i++)
            {
                ulong seed = firstSeed + (ulong)i;
                await channel.Writer.WriteAsync(Task.Run(() => make(seed), cancellation), cancellation);
            }
        }, cancellation).ContinueWith(done => channel.Writer.Complete(done.Exception?.InnerException), CancellationToken.None);
        await foreach (var study in channel.Reader.ReadAllAsync(cancellation))
            yield return await study;
        await producer;
        cancellation.ThrowIfCancellationRequested();
    }
}
