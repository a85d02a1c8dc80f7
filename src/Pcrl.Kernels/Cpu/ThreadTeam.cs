using System.Runtime.ExceptionServices;

namespace Pcrl.Kernels.Cpu;

/// <summary>
/// A fixed number of threads that share out the parts of one job after another. Unlike the thread pool it keeps to the number it was given
/// and allocates nothing per job. A helper that other programs keep from its core is not waited for: whoever is there takes its parts.
/// </summary>
internal sealed class ThreadTeam : IDisposable
{
    /// <summary>Waiting costs a core its turn where cores are shared, sleeping costs a wake-up: spin for some microseconds only.</summary>
    private const int Spins = 2000;

    private const int Open = 1 << 30;

    private readonly Lock _oneJobAtATime = new();
    private readonly object _signal = new();
    private readonly Thread[] _helpers;
    private Action<int, int>? _work;
    private int _parts;
    private int _next;

    /// <summary>Helpers inside the job, and <see cref="Open"/> while more may enter.</summary>
    private int _inside;

    private volatile int _generation;
    private volatile bool _stop;
    private ExceptionDispatchInfo? _failure;

    /// <param name="size">Threads that work on a job, the caller's included.</param>
    public ThreadTeam(int size)
    {
        Size = size;
        _helpers = new Thread[size - 1];
        for (int i = 0; i < _helpers.Length; i++)
        {
            int worker = i + 1;
            _helpers[i] = new Thread(() => Help(worker)) { IsBackground = true, Name = $"Pcrl kernels {worker}" };
            _helpers[i].Start();
        }
    }

    public int Size { get; }

    /// <summary>Calls <paramref name="work"/>(part, worker) once for every part; worker is below <see cref="Size"/> and never in two calls at once. Not to be called from inside a part.</summary>
    public void Run(int parts, Action<int, int> work)
    {
        lock (_oneJobAtATime)
        {
            if (parts == 1 || Size == 1)
            {
                for (int part = 0; part < parts; part++)
                    work(part, 0);
                return;
            }
            _work = work;
            _parts = parts;
            _next = 0;
            Volatile.Write(ref _inside, Open);
            lock (_signal)
            {
                _generation++;
                Monitor.PulseAll(_signal);
            }
            TakeParts(0);
            Interlocked.And(ref _inside, ~Open);
            for (int spin = 0; Volatile.Read(ref _inside) > 0; spin++)
            {
                if (spin < Spins)
                    Thread.SpinWait(8);
                else
                    lock (_signal)
                        if (Volatile.Read(ref _inside) > 0)
                            Monitor.Wait(_signal);
            }
            _work = null;
            if (_failure is { } failure)
            {
                _failure = null;
                failure.Throw();
            }
        }
    }

    public void Dispose()
    {
        lock (_signal)
        {
            _stop = true;
            Monitor.PulseAll(_signal);
        }
        foreach (var helper in _helpers)
            helper.Join();
    }

    private void Help(int worker)
    {
        int seen = 0;
        while (true)
        {
            for (int spin = 0; _generation == seen && !_stop; spin++)
            {
                if (spin < Spins)
                    Thread.SpinWait(8);
                else
                    lock (_signal)
                        if (_generation == seen && !_stop)
                            Monitor.Wait(_signal);
            }
            if (_stop)
                return;
            seen = _generation;
            if (!Enter())
                continue;
            TakeParts(worker);
            if (Interlocked.Decrement(ref _inside) == 0)
                lock (_signal)
                    Monitor.PulseAll(_signal);
        }
    }

    /// <summary>Whether there was still a job to enter: this helper's, or the next one.</summary>
    private bool Enter()
    {
        for (int inside = Volatile.Read(ref _inside); (inside & Open) != 0;)
        {
            int before = Interlocked.CompareExchange(ref _inside, inside + 1, inside);
            if (before == inside)
                return true;
            inside = before;
        }
        return false;
    }

    private void TakeParts(int worker)
    {
        try
        {
            for (int part; (part = Interlocked.Increment(ref _next) - 1) < _parts;)
                _work!(part, worker);
        }
        catch (Exception failure)
        {
            Interlocked.CompareExchange(ref _failure, ExceptionDispatchInfo.Capture(failure), null);
            Volatile.Write(ref _next, _parts);
        }
    }
}
