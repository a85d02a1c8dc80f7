using Pcrl.Runtime.Language;
using Pcrl.Runtime.Reports;
using Pcrl.Runtime.Studies;

namespace Pcrl.EndToEnd.Tests;

/// <summary>The library as a service uses it.</summary>
public sealed class ReporterTests
{
    /// <summary>Kernels and callers that wait for their turn hear of it; nobody finds memory freed, nobody waits for ever.</summary>
    [Theory]
    [InlineData(5)]
    [InlineData(40)]
    [InlineData(150)]
    public async Task Closing_it_ends_what_is_encoded_and_written(int milliseconds)
    {
        var reporter = Reporter.Open(Repository.MiniBundle, new ReporterOptions { Parallel = 3 });
        var study = reporter.Prepare(Reporter.Read(Repository.Sample("ct-ich-050")), WindowChoice.Brain);
        var callers = Enumerable.Range(0, 10).Select(seed => Task.Run(async () =>
        {
            while (true)
                await foreach (var _ in reporter.WriteAsync(study, new SamplingOptions { Seed = (ulong)seed }))
                {
                }
        })).ToList();
        await Task.Delay(milliseconds);
        reporter.Dispose();
        reporter.Dispose();
        foreach (var caller in callers)
            await Assert.ThrowsAsync<ObjectDisposedException>(() => caller.WaitAsync(TimeSpan.FromMinutes(1)));
    }
}
