using System.Collections.Concurrent;
using System.Runtime;
using System.Runtime.ExceptionServices;

namespace Pcrl.Train.Torch;

/// <summary>
/// Threads that compute side by side, each with one-threaded operators. Small models gain more from this than from threads inside their operators:
/// nobody waits at the end of each operator, which beside busy neighbours costs ten times the work itself.
/// <para>
/// While they compute, the garbage collector rests. TorchSharp wraps the number in an expression such as <c>2 * tensor</c> in an object that nothing keeps
/// alive during the native call (<c>tensor + tensor</c> has one too, its factor); the allocations of another thread, or a collection in the background, would let the finalizer free what is being read. One thread that
/// computes without this class is safe where collections in the background are off, as in the tools' and the tests' project files, and no other thread allocates meanwhile: so tests that
/// use torch run alone.
/// </para>
/// </summary>
public sealed class Workers : IDisposable
{
    /// <summary>What all workers together may allocate in one go, far above what a step needs; the runtime sets it aside beforehand.</summary>
    private const long Allowance = 200 << 20;

    private readonly BlockingCollection<Action>[] _inboxes;

    /// <summary>Starts <paramref name="count"/> threads, the first of which is the caller's own.</summary>
    /// <param name="count">At least 1.</param>
    public Workers(int count)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(count, 1);
        _inboxes = [.. Enumerable.Range(1, count - 1).Select(_ => new BlockingCollection<Action>())];
        foreach (var inbox in _inboxes)
        {
            var thread = new Thread(() =>
            {
                foreach (var action in inbox.GetConsumingEnumerable())
                    action();
            }) { IsBackground = true };
            thread.Start();
        }
    }

    /// <summary>How many there are.</summary>
    public int Count => _inboxes.Length + 1;

    /// <summary>Calls <paramref name="work"/> with 0 … Count − 1, always the same number on the same thread, and waits for all.</summary>
    /// <exception cref="Exception">What the first of them threw, after all have ended.</exception>
    public void Run(Action<int> work)
    {
        using var left = new CountdownEvent(Count);
        var failures = new Exception?[Count];
        void One(int worker)
        {
            try
            {
                work(worker);
            }
            catch (Exception e)
            {
                failures[worker] = e;
            }
            left.Signal();
        }

        if (!GC.TryStartNoGCRegion(Allowance))
            throw new OutOfMemoryException();
        for (int i = 0; i < _inboxes.Length; i++)
        {
            int worker = i + 1;
            _inboxes[i].Add(() => One(worker));
        }
        One(0);
        left.Wait();
        if (GCSettings.LatencyMode == GCLatencyMode.NoGCRegion)
            GC.EndNoGCRegion();
        if (failures.FirstOrDefault(f => f is not null) is { } failure)
            ExceptionDispatchInfo.Throw(failure);
    }

    /// <summary>Sets every thread up for a stage: one-threaded operators, its own random numbers.</summary>
    public void Seed(long seed) => Run(worker =>
    {
        // Torch keeps both per thread.
        if (worker == 0)
            TorchDevice.Configure(threads: 1, seed);
        else
            TorchDevice.SeedThread(seed + worker);
        TorchSharp.torch.set_num_threads(1);
    });

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var inbox in _inboxes)
            inbox.CompleteAdding();
    }
}
