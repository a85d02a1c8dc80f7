using System.Runtime.ExceptionServices;

namespace Pcrl.Kernels.Cpu;

/// <summary>
/// A fixed number of threads that share out the parts of one job after another. Unlike the thread pool it keeps to the number it was given
/// and allocates nothing per job. A helper that other programs keep from its core is not waited for: whoever is there takes its parts.
/// </summary>
internal sealed class ThreadTeam : IDisposable
{
    /// <summary>
    /// How often to spin till others have ended their last parts: 0.8 ms, longer than a part takes. Waiting costs a core its turn where cores
    /// are shared, sleeping costs a wake-up, and the next job begins behind those parts.
    /// </summary>
    private const int Spins = 2000;

    /// <summary>
    /// How often a helper spins that has no share in what goes on: 50 µs, in which the next layer begins if there is one. Behind the last layer
    /// of a study all helpers of 16 cores would otherwise spin for longer than the study took them.
    /// </summary>
    private const int IdleSpins = 128;

    private const int Open = 1 << 30;

    /// <summary>More guests than this nobody has.</summary>
    private const int MostGuests = 32;

    [ThreadStatic]
    private static ThreadTeam? s_team; // whose part the thread is in, or whose guest it is

    [ThreadStatic]
    private static int s_worker;

    private readonly SemaphoreSlim _room; // for more callers that are workers
    private readonly Stack<int> _guests; // the workers that they can be
    private readonly object _signal = new(); // a job is there
    private readonly object _ended = new(); // all helpers have left it
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
        Guests = Math.Min(size, MostGuests);
        _room = new SemaphoreSlim(Guests, Guests);
        _guests = new Stack<int>(Enumerable.Range(size, Guests));
        _helpers = new Thread[size - 1];
        for (int i = 0; i < _helpers.Length; i++)
        {
            int worker = i + 1;
            _helpers[i] = new Thread(() => Help(worker)) { IsBackground = true, Name = $"Pcrl kernels {worker}" };
            _helpers[i].Start();
        }
    }

    public int Size { get; }

    /// <summary>Callers that can be workers at a time besides; see <see cref="EnterAsGuest"/>.</summary>
    public int Guests { get; }

    /// <summary>Workers that there can be, guests included.</summary>
    public int Workers => Size + Guests;

    /// <summary>Held during a job; who has several that belong together holds it himself meanwhile.</summary>
    public Lock Turn { get; } = new();

    /// <summary>The worker that the calling thread is, −1 outside this team's parts.</summary>
    public int Worker => s_team == this ? s_worker : -1;

    /// <summary>Calls <paramref name="work"/>(part, worker) once for every part; worker is below <see cref="Workers"/> and never in two calls at once. From inside a part, or as a guest: all of them on the worker that calls.</summary>
    public void Run(int parts, Action<int, int> work)
    {
        if (Worker is >= 0 and var alone)
        {
            for (int part = 0; part < parts; part++)
                work(part, alone);
            return;
        }
        lock (Turn)
        {
            _work = work;
            _parts = parts;
            _next = 0;
            bool shared = parts > 1 && Size > 1;
            if (shared)
                CallHelpers();
            TakeParts(0);
            if (shared)
                AwaitHelpers();
            _work = null;
            if (_failure is { } failure)
            {
                _failure = null;
                failure.Throw();
            }
        }
    }

    /// <summary>
    /// Makes the calling thread a worker of its own, numbered from <see cref="Size"/> on, until it leaves: what it runs it runs alone, beside the team's jobs.
    /// Waits while there are <see cref="Guests"/> of them.
    /// </summary>
    public GuestLane EnterAsGuest(CancellationToken cancellation)
    {
        _room.Wait(cancellation);
        int worker;
        lock (_guests)
            worker = _guests.Pop();
        var outer = (s_team, s_worker);
        (s_team, s_worker) = (this, worker);
        return new GuestLane(worker, () =>
        {
            (s_team, s_worker) = outer;
            lock (_guests)
                _guests.Push(worker);
            _room.Release();
        });
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
        _room.Dispose();
    }

    private void CallHelpers()
    {
        Volatile.Write(ref _inside, Open);
        lock (_signal)
        {
            _generation++;
            for (int sleepers = Math.Min(_parts - 1, _helpers.Length); sleepers > 0; sleepers--)
                Monitor.Pulse(_signal);
        }
    }

    private void AwaitHelpers()
    {
        Interlocked.And(ref _inside, ~Open);
        for (int spin = 0; Volatile.Read(ref _inside) > 0; spin++)
        {
            if (spin < Spins)
                Spin(spin);
            else
                lock (_ended)
                    if (Volatile.Read(ref _inside) > 0)
                        Monitor.Wait(_ended);
        }
    }

    private void Help(int worker)
    {
        int seen = 0;
        bool took = false;
        while (true)
        {
            for (int spins = 0, idle = 0; _generation == seen && !_stop;)
            {
                if (took && Volatile.Read(ref _work) is not null ? spins++ < Spins : idle++ < IdleSpins)
                    Spin(spins);
                else
                    lock (_signal)
                        if (_generation == seen && !_stop)
                            Monitor.Wait(_signal);
            }
            if (_stop)
                return;
            seen = _generation;
            took = false;
            if (!Enter())
                continue;
            took = TakeParts(worker);
            if (Interlocked.Decrement(ref _inside) == 0)
                lock (_ended)
                    Monitor.Pulse(_ended);
        }
    }

    /// <summary>Who spins for long gives way to whoever else wants the core: it may be the one that is waited for.</summary>
    private static void Spin(int spin)
    {
        Thread.SpinWait(8);
        if (spin >= IdleSpins)
            Thread.Yield();
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

    /// <summary>Does parts until there are none left.</summary>
    /// <returns>Whether it got any.</returns>
    private bool TakeParts(int worker)
    {
        bool took = false;
        var (outerTeam, outerWorker) = (s_team, s_worker); // the caller may be in a part of another team
        (s_team, s_worker) = (this, worker);
        try
        {
            for (int part; (part = Interlocked.Increment(ref _next) - 1) < _parts; took = true)
                _work!(part, worker);
        }
        catch (Exception failure)
        {
            Interlocked.CompareExchange(ref _failure, ExceptionDispatchInfo.Capture(failure), null);
            Volatile.Write(ref _next, _parts);
        }
        (s_team, s_worker) = (outerTeam, outerWorker);
        return took;
    }
}
