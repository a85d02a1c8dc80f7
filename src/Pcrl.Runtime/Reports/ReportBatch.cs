using System.Runtime.CompilerServices;
using Pcrl.Runtime.Language;
using Pcrl.Runtime.Studies;

namespace Pcrl.Runtime.Reports;

/// <summary>What became of one of many studies.</summary>
/// <param name="Study">Its path.</param>
/// <param name="Report">The report, or null.</param>
/// <param name="Problem">Why there is none.</param>
public sealed record StudyOutcome(string Study, Report? Report, string? Problem);

/// <summary>Reports of many studies: while some are written, others are read and encoded, a small model's each on one thread.</summary>
public static class ReportBatch
{
    /// <summary>Writes a report of each study. One that fails takes no other down.</summary>
    /// <param name="reporter">The opened bundle.</param>
    /// <param name="studies">Paths.</param>
    /// <param name="window">Window for Hounsfield input.</param>
    /// <param name="sampling">How tokens are drawn, the same for all.</param>
    /// <param name="cancellation">Ends it at any point.</param>
    /// <returns>The outcomes in the order of the studies, each as soon as it and those before it are there.</returns>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public static async IAsyncEnumerable<StudyOutcome> WriteAsync(
        Reporter reporter, IEnumerable<string> studies, WindowChoice window, SamplingOptions sampling,
        [EnumeratorCancellation] CancellationToken cancellation = default)
    {
        // One more than are written at a time, so that the next one stands ready.
        using var places = new SemaphoreSlim(reporter.Parallel + 1);
        // Pictures of one study are decoded on all cores anyway, but much of reading is not shared out.
        using var readers = new SemaphoreSlim(reporter.StudiesAtATime);
        using var underWay = reporter.BeginWork(); // from here on no study is alone
        using var leaving = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        var running = new Queue<Task<StudyOutcome>>();
        try
        {
            foreach (string study in studies)
            {
                await places.WaitAsync(leaving.Token).ConfigureAwait(false);
                running.Enqueue(WriteAsync(study));
                while (running.TryPeek(out var first) && first.IsCompleted)
                    yield return await running.Dequeue().ConfigureAwait(false);
            }
            while (running.TryDequeue(out var next))
                yield return await next.ConfigureAwait(false);
        }
        finally
        {
            await leaving.CancelAsync().ConfigureAwait(false);
            foreach (var left in running)
                await Task.WhenAny(left).ConfigureAwait(false); // they use what is disposed next
        }

        async Task<StudyOutcome> WriteAsync(string path)
        {
            try
            {
                Report? report = null;
                var prepared = await PrepareAsync(path).ConfigureAwait(false);
                await foreach (var piece in reporter.WriteAsync(prepared, sampling, leaving.Token).ConfigureAwait(false))
                    report = piece.Report;
                return new StudyOutcome(path, report! with { Study = path }, null);
            }
            catch (InputException e)
            {
                return new StudyOutcome(path, null, e.Message);
            }
            finally
            {
                places.Release();
            }
        }

        async Task<PreparedStudy> PrepareAsync(string path)
        {
            await readers.WaitAsync(leaving.Token).ConfigureAwait(false);
            try
            {
                return await Task.Run(() => reporter.Prepare(Reporter.Read(path, leaving.Token), window), leaving.Token).ConfigureAwait(false);
            }
            finally
            {
                readers.Release();
            }
        }
    }
}
