namespace Pcrl.Kernels;

/// <summary>A caller's stay in a lane of its own; see <see cref="Device.EnterLane"/>.</summary>
public sealed class GuestLane : IDisposable
{
    private readonly Action _leave;

    internal GuestLane(int lane, Action leave) => (Lane, _leave) = (lane, leave);

    /// <summary>The lane, from <see cref="Device.Lanes"/> on.</summary>
    public int Lane { get; }

    /// <summary>Leaves it. To be called once, by the thread that entered.</summary>
    public void Dispose() => _leave();
}
