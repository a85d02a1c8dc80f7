namespace Pcrl.Kernels;

/// <summary>A caller's stay in a lane of its own; see <see cref="Device.EnterLane"/>. It is left by the thread that entered.</summary>
internal sealed class GuestLane(int lane, Action leave) : IDisposable
{
    private Action? _leave = leave;

    /// <summary>The lane, from <see cref="Device.Lanes"/> on.</summary>
    public int Lane { get; } = lane;

    /// <summary>Leaves it.</summary>
    public void Dispose() => Interlocked.Exchange(ref _leave, null)?.Invoke();
}
